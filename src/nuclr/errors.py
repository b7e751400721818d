"""Exceptions of nuclr. Every message says what is wrong, where, and what to do about it."""

from __future__ import annotations


class NuclrError(Exception):
    """Base class of all errors that a user can correct. Commands print it in one line and exit with 1."""

    def __str__(self) -> str:
        # Names from files may contain line breaks and control characters, which are escaped for terminals.
        signs = " ".join(super().__str__().splitlines())
        return "".join(
            sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode()
            for sign in signs
        )


class ConfigError(NuclrError):
    """A key of the configuration is unknown, of the wrong type, or out of range."""


class DownloadError(NuclrError):
    """A file cannot be downloaded, or the downloaded file is not the expected one."""


class DataError(NuclrError):
    """A recording cannot be read, or its contents are not valid."""


class NothingToLearn(DataError):
    """A recording can be read, but contains no units or traces that can be used."""


class StoreError(NuclrError):
    """A population store is missing, damaged, or of another version."""


class SplitError(NuclrError):
    """More animals were requested than there are, or an animal would be in two groups of a split."""


class ModelError(NuclrError):
    """A model file is damaged, or the model cannot be used with the given data."""


class TrainingError(NuclrError):
    """Pretraining cannot start or continue."""
