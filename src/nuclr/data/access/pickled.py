"""Reading of a pickled dictionary in a ``.npy`` file without executing code.

A pickle refers to functions and classes by name. Here, each allowed name is replaced by a class of this
module that only stores its arguments; any other name is an error.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

LARGEST = 2**30  # largest file (bytes)
DEEPEST = 4  # levels of nested dictionaries
SHORT = 64  # largest array that can be a single number (bytes)
NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


class _StandIn:
    """Replacement for classes without numbers: times and paths."""

    def __init__(self, *_: object) -> None:
        pass

    # Without this method, a pickle could set attributes of these classes.
    def __setstate__(self, state: Any) -> None:
        pass


class _Kind(_StandIn):
    """Replacement for ``numpy.dtype``."""

    def __init__(self, name: str, *_: object) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def number(self, content: object) -> Any:
        """Return one number from its bytes; None if it is not a number."""
        if self.name not in NUMBERS or self.order not in ("<", ">", "=", "|"):
            return None
        kind = np.dtype(self.order + self.name)
        if not isinstance(content, bytes) or len(content) != kind.itemsize:
            return None
        return np.frombuffer(content, kind)[0].item()


class _Array(_StandIn):
    """Replacement for ``numpy.ndarray``, which keeps a single number or object."""

    def __init__(self, *_: object) -> None:
        self.content: Any = None

    def __setstate__(self, state: Any) -> None:
        _, _, kind, _, content = state
        if isinstance(content, list):
            self.content = content[0] if len(content) == 1 else None
        elif isinstance(content, bytes | bytearray) and len(content) <= SHORT:
            self.content = kind.number(bytes(content))


class _Buffer(_Array):
    """Replacement for an array that is created from its bytes (pickle's protocol 5)."""

    def __init__(self, content: Any, kind: Any, *_: object) -> None:
        super().__init__()
        self.__setstate__((None, None, kind, None, content))


class _Scalar(_StandIn):
    """Replacement for NumPy's scalars, which returns the number."""

    def __new__(cls, kind: Any, content: object = None) -> Any:
        return kind.number(content)


KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _Array,
    **{
        (f"numpy.{core}.{module}", name): stands
        for core in ("core", "_core")
        for module, name, stands in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _Scalar),
            ("numeric", "_frombuffer", _Buffer),
        )
    },
    **{("datetime", name): _StandIn for name in ("datetime", "date", "timezone", "timedelta")},
    **{
        (module, name): _StandIn
        for module in ("pathlib", "pathlib._local")
        for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    },
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement for a name; nothing is imported."""
        try:
            return KNOWN[module, name]
        except KeyError:
            raise ValueError(f"the pickle refers to {module}.{name}, which is not allowed") from None


def read_dictionary(path: Path) -> dict[str, Any]:
    """Read the numbers, texts and dictionaries of a dictionary that ``numpy.save`` pickled.

    Parameters
    ----------
    path
        The ``.npy`` file.

    Returns
    -------
    dict
        The dictionary without values of other types.

    Raises
    ------
    ValueError
        If it cannot be read, is larger than 1 GiB, or refers to anything but the allowed classes.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("larger than 1 GiB")
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            shape, _, kind = read(file)
            if kind != np.dtype(object) or shape != ():
                raise ValueError("it contains no dictionary")
            found = _Reader(io.BytesIO(file.read())).load()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise
    # A damaged pickle can cause any error.
    except Exception as error:
        raise ValueError(f"damaged ({type(error).__name__})") from None
    content = found.content if isinstance(found, _Array) else None
    if not isinstance(content, dict):
        raise ValueError("it contains no dictionary")
    return _plain(content, DEEPEST)


def _plain(content: dict[Any, Any], depth: int) -> dict[str, Any]:
    """Return the numbers, texts and nested dictionaries of a dictionary, down to a number of levels."""
    kept: dict[str, Any] = {}
    for name, value in content.items():
        value = value.content if isinstance(value, _Array) else value
        if isinstance(value, dict):
            value = _plain(value, depth - 1) if depth > 1 else None
        if isinstance(name, str) and isinstance(value, bool | int | float | str | dict):
            kept[name] = value
    return kept
