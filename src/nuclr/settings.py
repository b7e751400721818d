"""Sources of settings as nested dictionaries: YAML files, inline JSON, ``section.key=value``."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nuclr.errors import ConfigError

SOURCES = "the path of a YAML file, inline JSON, or key=value such as pretrain.steps=60"
# A key, and its value; names of files have a slash before "=", or a suffix of YAML.
KEY_AND_VALUE = re.compile(r"\s*([A-Za-z_][\w.]*)\s*=(?!.*\.ya?ml$)(.*)", re.DOTALL)
Source = str | Path | Mapping[str, Any]


def name_of_source(source: Source) -> str:
    """Return how messages call a source: its path, or "config" for settings that are not in a file."""
    return "config" if not isinstance(source, str | Path) or _is_inline(source) else str(source)


def read_source(source: Source) -> dict[str, Any]:
    """Read settings as nested dictionaries; ``{"imaging.rate_hz": 10}`` is ``{"imaging": {"rate_hz": 10}}``.

    Dots inside a section are kept, because classes of a task may be called "L2.3".

    Raises
    ------
    ConfigError
        If a file cannot be read, or the settings are not keys and values.
    """
    where = name_of_source(source)
    values = _parsed(source, where) if isinstance(source, str | Path) else source
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: must contain keys and values, as in config.yaml")
    return _nested(values)


def merge(values: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add settings to others, of which those with the same key are replaced."""
    for key, value in more.items():
        if isinstance(value, Mapping):
            if not isinstance(values.get(key), dict):
                values[key] = {}
            merge(values[key], value)
        else:
            # Copied, so that merging does not change the caller's dictionaries.
            values[key] = copy.deepcopy(value)


def _is_inline(source: str | Path) -> bool:
    if isinstance(source, Path):
        return False
    return source.lstrip().startswith("{") or _key_and_value(source) is not None


def _key_and_value(source: str) -> tuple[str, str] | None:
    found = KEY_AND_VALUE.fullmatch(source)
    # A file may be named like a setting.
    return (found[1], found[2].strip()) if found and not os.path.exists(source) else None


def _parsed(source: str | Path, where: str) -> Any:
    text = str(source)
    try:
        if text.lstrip().startswith("{") and _is_inline(source):
            return json.loads(text)
        if isinstance(source, str) and (given := _key_and_value(source)) is not None:
            where = given[0]
            return {where: _value(given[1])}
        return yaml.safe_load(Path(source).read_text()) or {}
    except json.JSONDecodeError as error:
        raise ConfigError(f"config: not valid JSON ({error}); give {SOURCES}") from None
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror}); give {SOURCES}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: not a text file; give {SOURCES}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML ({' '.join(str(error).split())})") from None


def _value(text: str) -> Any:
    """Return a value that is written as in YAML; 000006 is the name of a dandiset and no octal number."""
    return text if re.fullmatch(r"0\d+", text) else yaml.safe_load(text)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        first, *others = key.split(".") if isinstance(key, str) else [key]
        for name in reversed(others):
            value = {name: value}
        merge(nested, {first: value})
    return nested
