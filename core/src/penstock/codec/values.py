"""Values in the header: types of msgpack are written as they are, all others as tagged lists.

A list whose first item is an empty extension of a code below 16 is tagged, and its other items are its contents: a
tuple, a set, a mapping whose keys are not all str, coordinates, or a reference to a buffer. An extension of a higher
code is a scalar, and its bytes are its contents. So msgpack is written and read in one pass.
"""

from __future__ import annotations

import enum
import os
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from types import ModuleType
from typing import Any
from uuid import UUID

from msgspec.msgpack import Ext

from penstock.codec.subclasses import builtin_of, check_distinct, distinct_items, shown
from penstock.coords import DataCoordinates
from penstock.errors import CodecError

MAX_DEPTH = 64
"""The greatest nesting depth: deep enough for intended values, and shallow enough for any stack."""

_TUPLE, _SET, _FROZENSET, _MAPPING, _COORDS, ARRAY, _BYTES, _SCALAR = (Ext(code, b"") for code in range(1, 9))
_FIRST_SCALAR_CODE = 16
_PLAIN = frozenset((type(None), bool, int, float, str, bytes))
_STR = frozenset((str,))
_NESTED = frozenset((list, dict, Ext))
_INLINE_SIZE = 4096  # larger bytes in metadata get a buffer of their own
_POSIX: type[PurePath] = Path if os.name == "posix" else PurePosixPath
_WINDOWS: type[PurePath] = Path if os.name == "nt" else PureWindowsPath
_COMPLEX = struct.Struct("<dd")
_TIMEDELTA = struct.Struct("<iii")


def is_plain(mapping: dict[Any, Any]) -> bool:
    """Return True if msgpack can write these directly: str keys, and values that are not containers."""
    return _PLAIN.issuperset(map(type, mapping.values())) and _STR.issuperset(map(type, mapping))


def is_flat(mapping: dict[str, Any]) -> bool:
    """Return True if none of the values that msgpack read is a tag or a container."""
    return _NESTED.isdisjoint(map(type, mapping.values()))


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


_SCALARS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    complex: (18, lambda value: _COMPLEX.pack(value.real, value.imag)),
    datetime: (19, lambda value: value.isoformat().encode()),
    date: (20, lambda value: value.isoformat().encode()),
    time: (21, lambda value: value.isoformat().encode()),
    timedelta: (22, lambda value: _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)),
    UUID: (24, lambda value: value.bytes),
    Decimal: (25, lambda value: str(value).encode()),
}

_SCALARS_BACK: dict[int, Callable[[bytes], Any]] = {
    16: lambda data: data.decode("utf-8", "surrogatepass"),
    17: lambda data: int.from_bytes(data, "little", signed=True),
    18: lambda data: complex(*_COMPLEX.unpack(data)),
    19: lambda data: datetime.fromisoformat(data.decode("ascii")),
    20: lambda data: date.fromisoformat(data.decode("ascii")),
    21: lambda data: time.fromisoformat(data.decode("ascii")),
    22: lambda data: timedelta(*_TIMEDELTA.unpack(data)),
    23: lambda data: _POSIX(data.decode("utf-8", "surrogatepass")),
    24: lambda data: UUID(bytes=data),
    25: lambda data: Decimal(data.decode("ascii")),
    26: lambda data: _WINDOWS(data.decode("utf-8", "surrogatepass")),
}


class Packer:
    """Turn the values of one record into types of msgpack, and collect its buffers."""

    __slots__ = ("buffers", "careful")

    def __init__(self, *, careful: bool = False) -> None:
        self.buffers: list[bytes | memoryview] = []
        self.careful = careful  # look at each int and str, since msgpack has refused one

    def pack_metadata(self, value: Mapping[Any, Any], path: str) -> dict[str, Any]:
        """Return metadata or coordinates packed; unlike in other mappings, all keys must be str."""
        if not isinstance(value, Mapping):
            raise CodecError(f"{path}: must be a mapping, not {type(value).__name__}")
        for key in value:
            if not isinstance(key, str):
                raise CodecError(f"{path}: key {shown(key)} must be a str, not {type(key).__name__}")
            if self.careful and _is_broken(key):
                raise CodecError(f"{path}: key {key!r} is not valid text; use one without lone surrogates")
        packed = {str.__str__(key): self.pack(item, f"{path}.{key}", 1) for key, item in value.items()}
        if len(packed) != len(value):
            raise CodecError(f"{path}: has the same key more than once; use a dict")
        return packed

    def pack_data(self, value: Any, path: str) -> Any:
        """Return the data of a record packed: bytes and arrays as buffers, whatever their size."""
        kind = type(value)
        if kind is bytes or kind is bytearray or kind is memoryview:
            return [_BYTES, self._add(value)]
        if kind.__name__ == "ndarray" and isinstance(value, array_codec().KINDS):  # the common case first
            return self._pack_array(value, path)
        return self.pack(value, path, 0)

    def pack(self, value: Any, path: str, depth: int) -> Any:
        """Return a value packed; `path` locates it in errors."""
        kind = type(value)
        if kind in _PLAIN:
            if self.careful or (kind is bytes and len(value) >= _INLINE_SIZE):
                return self._pack_plain(value)
            return value
        if depth >= MAX_DEPTH:
            raise CodecError(f"{path[:200]}: is nested more than {MAX_DEPTH} deep (or holds itself)")
        if kind is list:
            return self._pack_items(value, path, depth)
        if kind is dict:
            return self._pack_mapping(value, path, depth)
        scalar = _SCALARS.get(kind)
        if scalar is not None:
            return Ext(scalar[0], scalar[1](value))
        return self._pack_other(value, path, depth)

    def _pack_plain(self, value: Any) -> Any:
        if type(value) is int and not -(1 << 63) <= value < 1 << 63:
            return Ext(17, _int(value))
        if type(value) is str and _is_broken(value):
            return Ext(16, _text(value))
        if type(value) is bytes and len(value) >= _INLINE_SIZE:
            return [_BYTES, self._add(value)]
        return value

    def _pack_items(self, items: Iterable[Any], path: str, depth: int) -> list[Any]:
        return [self.pack(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(items)]

    def _pack_mapping(self, mapping: Mapping[Any, Any], path: str, depth: int) -> Any:
        if type(mapping) is not dict:
            mapping = distinct_items(mapping, path)
        if all(type(key) is str for key in mapping) and not (self.careful and any(map(_is_broken, mapping))):
            return {key: self.pack(value, f"{path}.{key}", depth + 1) for key, value in mapping.items()}
        check_distinct(mapping, path)
        pairs: list[Any] = [_MAPPING]
        for key, value in mapping.items():
            pairs.append(self.pack(key, f"{path} key {shown(key)}", depth + 1))
            pairs.append(self.pack(value, f"{path}[{shown(key)}]", depth + 1))
        return pairs

    def _pack_other(self, value: Any, path: str, depth: int) -> Any:
        if "numpy" in sys.modules and isinstance(value, array_codec().KINDS):  # an array implies that it is imported
            return self._pack_array(value, path)
        if isinstance(value, enum.Enum):
            return self.pack(value.value, path, depth + 1)
        if isinstance(value, DataCoordinates):
            return [_COORDS, self._pack_mapping(dict(value), path, depth)]
        if isinstance(value, bytearray | memoryview):
            data = value if isinstance(value, bytearray) else _contiguous(value)
            return [_BYTES, self._add(data)] if len(data) >= _INLINE_SIZE else bytes(data)
        if isinstance(value, tuple):
            return [_TUPLE, *self._pack_items(value, path, depth)]
        if isinstance(value, set | frozenset):
            check_distinct(value, path)
            return [_SET if isinstance(value, set) else _FROZENSET, *self._pack_items(value, path, depth)]
        if isinstance(value, Mapping):
            return self._pack_mapping(value, path, depth)
        if isinstance(value, list):
            return self._pack_items(value, path, depth)
        plain = builtin_of(value, path)  # numpy's are handled above
        if plain is not None:
            if type(plain) in _SCALARS:
                code, pack = _SCALARS[type(plain)]
                return Ext(code, pack(plain))
            return self._pack_plain(plain)
        if isinstance(value, PurePath):
            return _packed_path(value, path)
        raise CodecError(
            f"{path}: {type(value).__module__}.{type(value).__qualname__} cannot be written as bytes "
            f"({shown(value)}); use numbers, text, bytes, arrays, times, lists and dicts"
        )

    def _pack_array(self, value: Any, path: str) -> list[Any]:
        arrays = array_codec()
        dtype = arrays.dtype_to_plain(value.dtype, path)
        if not hasattr(value, "__array_finalize__"):  # a scalar, not an array
            return [_SCALAR, dtype, value.tobytes()]
        buffer, order = arrays.buffer_of(value, path)
        self.buffers.append(buffer)
        return [ARRAY, len(self.buffers) - 1, dtype, list(value.shape), order]

    def _add(self, data: bytes | bytearray | memoryview) -> int:
        self.buffers.append(data if type(data) is bytes else _contiguous(data))
        return len(self.buffers) - 1


class Unpacker:
    """Turn the output of msgpack back into values; its containers are changed in place."""

    __slots__ = ("_buffers", "unused")

    def __init__(self, buffers: list[memoryview | None]) -> None:
        self._buffers = buffers
        self.unused = len(buffers)

    def unpack(self, value: Any, depth: int) -> Any:
        """Return the value that this represents."""
        kind = type(value)
        if kind not in _NESTED:
            return value
        if depth > MAX_DEPTH:
            raise CodecError(f"the header of the record is nested more than {MAX_DEPTH} deep")
        if kind is dict:
            if not all(type(key) is str for key in value):
                raise CodecError("the header of the record is wrong: a mapping has keys that are not str")
            return self.unpack_dict(value, depth)
        if kind is Ext:
            if value.code not in _SCALARS_BACK:
                raise CodecError(f"the header of the record is wrong: it has no type {value.code}")
            return _SCALARS_BACK[value.code](bytes(value.data))
        if value and type(value[0]) is Ext and value[0].code < _FIRST_SCALAR_CODE:
            return self._unpack_tagged(value, depth)
        if not _NESTED.isdisjoint(map(type, value)):
            value[:] = [self.unpack(item, depth + 1) for item in value]
        return value

    def unpack_dict(self, value: dict[str, Any], depth: int) -> dict[str, Any]:
        """Return a mapping whose keys are known to be str, with its values unpacked."""
        if not is_flat(value):
            for key, item in value.items():
                value[key] = self.unpack(item, depth + 1)
        return value

    def _unpack_tagged(self, value: list[Any], depth: int) -> Any:
        code = value[0].code
        if code == ARRAY.code:
            _, index, dtype, shape, order = value
            return array_codec().array_of(self._take(index), dtype, shape, order)
        if code == _BYTES.code:
            _, index = value
            return bytes(self._take(index))
        if code == _SCALAR.code:
            _, dtype, data = value
            return array_codec().array_of(memoryview(data), dtype, [], "C")[()]
        items = [self.unpack(item, depth + 1) for item in value[1:]]
        if code == _TUPLE.code:
            return tuple(items)
        if code == _SET.code:
            return set(items)
        if code == _FROZENSET.code:
            return frozenset(items)
        if code == _MAPPING.code:
            return dict(zip(items[::2], items[1::2], strict=True))
        if code == _COORDS.code:
            (coords,) = items
            return DataCoordinates(coords)
        raise CodecError(f"the header of the record is wrong: it has no type {code}")

    def _take(self, index: Any) -> memoryview:
        if type(index) is not int or not 0 <= index < len(self._buffers):
            raise CodecError(f"the header of the record is wrong: it has no buffer {index!r}")
        buffer = self._buffers[index]
        if buffer is None:
            raise CodecError(f"the header of the record is wrong: buffer {index} is used twice")
        self._buffers[index] = None
        self.unused -= 1
        return buffer


@cache
def array_codec() -> ModuleType:
    """Return the module for arrays, imported with the first array, since it imports numpy."""
    from penstock.codec import arrays

    return arrays


def _packed_path(value: PurePath, path: str) -> Ext:
    windows = isinstance(value, PureWindowsPath)
    text = str(value)
    if (PureWindowsPath if windows else PurePosixPath)(text) != value:
        raise CodecError(f"{path}: {type(value).__qualname__} {shown(value)} is more than its text; use str(path)")
    return Ext(26 if windows else 23, _text(text))


def _is_broken(text: Any) -> bool:
    """Return True for a str with lone surrogates, which UTF-8 cannot hold."""
    try:
        str(text).encode()
    except UnicodeEncodeError:
        return True
    return False


def _contiguous(data: bytes | bytearray | memoryview) -> memoryview:
    view = memoryview(data)
    if "O" in view.format:
        raise CodecError("a memoryview of Python objects cannot be written as bytes; pass the objects as a list")
    return view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())
