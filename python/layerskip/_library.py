# SPDX-License-Identifier: Apache-2.0
"""Finds liblayerskip, declares its functions, and turns keyword arguments into its structs and its structs into named tuples."""
from __future__ import annotations

import ctypes
import difflib
import operator
import os
import sys
from pathlib import Path
from typing import Any, Iterator, Sequence

from . import _abi

SONAME = "liblayerskip.so.0"


class LayerskipError(RuntimeError):
    """What the library says, in one line; `code` is why, as one of Status."""

    def __init__(self, code: int, text: str):
        super().__init__(text)
        self.code = _abi.Status(code) if code in _abi.Status._value2member_map_ else code


def places() -> Iterator[str]:
    """Where the library may be: as LAYERSKIP_LIBRARY says and nowhere else; or in the tree that this file is part of; installed; below this Python's prefix."""
    if given := os.environ.get("LAYERSKIP_LIBRARY"):
        yield given
        return
    tree = Path(__file__).resolve().parents[2]
    if (tree / "include/layerskip.h").is_file():
        yield str(tree / "build" / SONAME)
    yield SONAME
    for prefix in (sys.prefix, "/usr/local"):
        yield str(Path(prefix) / "lib" / SONAME)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in version.split("-")[0].split("."))


def load() -> ctypes.CDLL:
    refusals = []
    for place in places():
        try:
            library = ctypes.CDLL(place)
            break
        except OSError as e:
            refusals.append(str(e))
    else:
        raise ImportError(f"{SONAME} cannot be loaded ({'; '.join(refusals)}): install liblayerskip0, run `make` in the tree, or set LAYERSKIP_LIBRARY to the file")
    library.lsk_version.restype = ctypes.c_char_p
    found = library.lsk_version().decode()
    if numbers(found) < numbers(_abi.VERSION):
        raise ImportError(f"{place} is version {found}, this package needs {_abi.VERSION} or later: install both together")
    for name, (result, arguments) in _abi.FUNCTIONS.items():
        function = getattr(library, name, None)
        if not function:
            raise ImportError(f"{place} has no {name}: it is older than this package, install both together")
        function.restype, function.argtypes = result, arguments
    return library


lib = load()


def check(result: int, error: _abi.lsk_error) -> int:
    if result < 0:
        raise_error(error)
    return result


def raise_error(error: _abi.lsk_error) -> None:
    raise LayerskipError(error.code, error.text.decode(errors="replace"))


CALLBACK = ctypes.CFUNCTYPE(None).__mro__[1]  # what all types of callbacks are


def text_of(value: Any, what: str = "") -> bytes:
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{what}{': ' if what else ''}must be a text or a path, not {type(value).__name__}")
    data = value if isinstance(value, bytes) else os.fsencode(value) if isinstance(value, os.PathLike) else value.encode()
    if b"\0" in data:
        raise ValueError("a text with a zero byte cannot be handed to the library")
    return data


def ids_of(value: Any, what: str) -> ctypes.Array[ctypes.c_int32]:
    try:
        ids = [operator.index(i) for i in value]
    except TypeError:
        raise TypeError(f"{what}: must be token ids, not {value!r:.40}") from None
    if any(not -(2**31) <= i < 2**31 for i in ids):
        raise OverflowError(f"{what}: a token id has 32 bits")
    return (ctypes.c_int32 * len(ids))(*ids)


def convert(kind: Any, value: Any, counted: bool = False) -> Any:
    """A Python value as a field's type. Arrays get a zero behind their last element, which ends those that have no count."""
    if kind is ctypes.c_char_p:
        return text_of(value)
    if issubclass(kind, ctypes.Structure):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise TypeError(f"must be {' and '.join(n for n, _ in kind._fields_)}, not {type(value).__name__}")
        return kind(*value)
    if issubclass(kind, ctypes._Pointer):
        inner = kind._type_
        if issubclass(inner, ctypes.Structure) and not counted:
            return ctypes.pointer(convert(inner, value))
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            raise TypeError(f"must be a list, not {type(value).__name__}")
        return (inner * (len(value) + 1))(*[convert(inner, v) for v in value])
    if kind in (ctypes.c_float, ctypes.c_double):
        return float(value)
    if kind(value).value != value:
        raise OverflowError(f"{value} does not fit")
    return int(value)


def fill(struct: Any, given: dict[str, Any]) -> Any:
    """A struct of options from keyword arguments; None is as if it were not given."""
    fields = dict(struct._fields_)
    hidden = {n for n, kind in fields.items() if n == "reserved" or n.endswith("_ud") or (n[:2] == "n_" and n[2:] in fields) or issubclass(kind, CALLBACK)}
    made = struct()
    for name, value in given.items():
        if name not in fields or name in hidden:
            near = difflib.get_close_matches(name, set(fields) - hidden, 1)
            raise TypeError(f"unknown option {name!r}" + (f": did you mean {near[0]!r}?" if near else ""))
        if value is None:
            continue
        if isinstance(value, dict):
            value = list(value.items())
        counted = f"n_{name}" in fields
        try:
            setattr(made, name, convert(fields[name], value, counted))
        except (TypeError, ValueError, AttributeError, OverflowError) as e:
            raise type(e)(f"option {name!r}: {e}") from None
        if counted:
            setattr(made, f"n_{name}", len(value))
    return made


def read(struct: ctypes.Structure, shape: Any) -> Any:
    """A struct as the named tuple of the same fields."""
    def value(name: str) -> Any:
        v = getattr(struct, name)
        if isinstance(v, bytes):
            return v.decode(errors="replace")
        if isinstance(v, _abi.lsk_memory):
            return read(v, _abi.Memory)
        if isinstance(v, ctypes.Array):
            return tuple(v[:getattr(struct, f"n_{name}", len(v))])
        return "" if v is None else v

    return shape(**{name: value(name) for name in shape._fields})


class Callback:
    """A Python function for C: an exception in it stops what the library does, and is raised when that has returned."""

    def __init__(self, kind: Any, function: Any):
        self.function = function
        self.raised: BaseException | None = None
        self.pointer = kind(self.call)

    def call(self, *arguments: Any) -> int:
        try:
            return bool(self.function(*arguments[1:]))
        except BaseException as e:  # KeyboardInterrupt too
            self.raised = e
            return 1

    def finish(self) -> None:
        raised, self.raised = self.raised, None
        if raised:
            raise raised
