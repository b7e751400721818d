"""The numbers of a pickled dictionary in a ``.npy`` file, of which nothing is run.

A pickle names functions to call. Here each name stands for something of this file that holds what it is
given; a name that is not known ends the reading.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

LARGEST = 2**30  # bytes of a file
DEEPEST = 4  # dictionaries in dictionaries
SHORT = 64  # bytes of an array that can be one number
NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


class _StandIn:
    """Something that is no number: stands for times and paths."""

    def __init__(self, *_: object) -> None:
        pass

    # Without it, a pickle could set attributes of these classes themselves.
    def __setstate__(self, state: Any) -> None:
        pass


class _Kind(_StandIn):
    """What numbers are: stands for ``numpy.dtype``."""

    def __init__(self, name: str, *_: object) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def number(self, content: object) -> Any:
        """Read one number; None if it is none."""
        if self.name not in NUMBERS or self.order not in ("<", ">", "=", "|"):
            return None
        kind = np.dtype(self.order + self.name)
        if not isinstance(content, bytes) or len(content) != kind.itemsize:
            return None
        return np.frombuffer(content, kind)[0].item()


class _Array(_StandIn):
    """An array, of which a single number or object is kept: stands for ``numpy.ndarray``."""

    def __init__(self, *_: object) -> None:
        self.content: Any = None

    def __setstate__(self, state: Any) -> None:
        _, _, kind, _, content = state
        if isinstance(content, list):
            self.content = content[0] if len(content) == 1 else None
        elif isinstance(content, bytes | bytearray) and len(content) <= SHORT:
            self.content = kind.number(bytes(content))


class _Buffer(_Array):
    """An array that is made of its bytes at once (pickle's protocol 5)."""

    def __init__(self, content: Any, kind: Any, *_: object) -> None:
        super().__init__()
        self.__setstate__((None, None, kind, None, content))


class _Scalar(_StandIn):
    """Becomes the number: stands for NumPy's scalars."""

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
        """Give what stands for a name; nothing is ever imported."""
        try:
            return KNOWN[module, name]
        except KeyError:
            raise ValueError(f"the pickle refers to {module}.{name}, which is not allowed") from None


def read_dictionary(path: Path) -> dict[str, Any]:
    """Read the numbers, words and dictionaries of a dictionary that ``numpy.save`` has pickled.

    Parameters
    ----------
    path
        The ``.npy`` file.

    Returns
    -------
    dict
        What else the dictionary holds is not in it.

    Raises
    ------
    ValueError
        If it cannot be read, is larger than 1 GiB, or names anything but NumPy's numbers and arrays.
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
    # A damaged pickle can end in any error.
    except Exception as error:
        raise ValueError(f"damaged ({type(error).__name__})") from None
    content = found.content if isinstance(found, _Array) else None
    if not isinstance(content, dict):
        raise ValueError("it contains no dictionary")
    return _plain(content, DEEPEST)


def _plain(content: dict[Any, Any], depth: int) -> dict[str, Any]:
    """Keep what is a number, a word or a dictionary of these; no deeper than so many dictionaries."""
    kept: dict[str, Any] = {}
    for name, value in content.items():
        value = value.content if isinstance(value, _Array) else value
        if isinstance(value, dict):
            value = _plain(value, depth - 1) if depth > 1 else None
        if isinstance(name, str) and isinstance(value, bool | int | float | str | dict):
            kept[name] = value
    return kept
