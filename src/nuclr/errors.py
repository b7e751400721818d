"""What can go wrong, by name. Every message says what, where, and what to do about it."""

from __future__ import annotations


class NuclrError(Exception):
    """Anything that a user can put right. The command line prints it in one line and exits with 1."""

    def __str__(self) -> str:
        # Names come from files: they may hold line ends, and signs that no terminal shows or that steer it.
        signs = " ".join(super().__str__().splitlines())
        return "".join(
            sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode()
            for sign in signs
        )


class ConfigError(NuclrError):
    """A key of the configuration is unknown, of the wrong type, or out of range."""


class DownloadError(NuclrError):
    """A file cannot be fetched, or what came is not what should have come."""


class DataError(NuclrError):
    """A recording cannot be read, or what it holds cannot be trusted."""


class NothingToLearn(DataError):
    """A recording is whole, but holds nothing that can be learned from."""


class StoreError(NuclrError):
    """A population store is missing, damaged, or of another version."""


class SplitError(NuclrError):
    """More animals were asked for than there are, or an animal would be in two groups."""


class ModelError(NuclrError):
    """A model file is damaged, or does not fit the data that it is given."""


class TrainingError(NuclrError):
    """Pretraining cannot start or go on."""
