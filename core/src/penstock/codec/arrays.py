"""Arrays in a record: their dtype as plain data, their memory as one buffer, and back. Imported only with numpy."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from penstock.codec.values import ARRAY
from penstock.errors import CodecError

_DTYPE = re.compile(
    r"[<>|](b1|[iu][1248]|f(2|4|8|12|16)|c(8|16|24|32)|[SUV]\d{1,9}|[mM]8(\[[0-9A-Za-zμ/]{1,16}\])?)", re.ASCII
)
_encode = msgspec.msgpack.Encoder().encode
_MAX_FIELDS_DEPTH = 16
_CAST = frozenset("?bBhHiIlLqQfd")  # formats supported by `memoryview.cast`

KINDS = (np.ndarray, np.generic)
"""The types of numpy's arrays and scalars."""


@lru_cache(maxsize=256)
def _simple(dtype: np.dtype[Any]) -> str | None:
    text = dtype.str
    known = dtype.names is None and dtype.subdtype is None and _DTYPE.fullmatch(text) is not None
    return text if known and np.dtype(text) == dtype else None


@lru_cache(maxsize=1024)
def layout(kind: type, dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[msgspec.Raw, msgspec.Raw, int] | None:
    """Return the encoded description of an array in order "C" that is the data of a record, and its size in bytes.

    The description is the list of buffer sizes and the array's entry in the header, both encoded. None for arrays that
    are empty, or of a type or dtype that `memoryview.cast` does not support.
    """
    size = math.prod(shape) * dtype.itemsize
    if kind is not np.ndarray or dtype.char not in _CAST or not dtype.isnative or not size:
        return None
    described = [ARRAY, 0, dtype_to_plain(dtype, ""), list(shape), "C"]
    return msgspec.Raw(_encode([size])), msgspec.Raw(_encode(described)), size


def dtype_to_plain(dtype: np.dtype[Any], path: str) -> Any:
    """Return a dtype as its short name, a structured one as [names, formats, offsets, titles, itemsize]."""
    text = _simple(dtype)
    if text is not None:
        return text
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [dtype_to_plain(base, path), list(shape)]
    if dtype.fields is None or dtype.names is None or dtype.hasobject:
        raise CodecError(f"{path}: an array of dtype {dtype} cannot be written as bytes; convert it to numbers or text")
    fields = [dtype.fields[name] for name in dtype.names]
    titles = [field[2] if len(field) > 2 else None for field in fields]
    if not all(title is None or type(title) is str for title in titles):
        raise CodecError(f"{path}: a field of dtype {dtype} has a title that is not text; use a str")
    formats = [dtype_to_plain(field[0], path) for field in fields]
    return [list(dtype.names), formats, [field[1] for field in fields], titles, dtype.itemsize]


def dtype_from_plain(plain: Any, depth: int = 0) -> np.dtype[Any]:
    """Return the described dtype; raises CodecError for a description that `dtype_to_plain` cannot return."""
    if type(plain) is str:
        return _named(plain)
    if type(plain) is not list or depth > _MAX_FIELDS_DEPTH:
        raise CodecError(f"the header of the record is wrong: {str(plain)[:80]!r} is not a dtype")
    if len(plain) == 2:
        base, shape = plain
        return np.dtype((dtype_from_plain(base, depth + 1), tuple(_checked_shape(shape))))
    names, formats, offsets, titles, itemsize = plain
    if not all(title is None or type(title) is str for title in titles):
        raise CodecError("the header of the record is wrong: the title of a field is not text")
    inner = [dtype_from_plain(one, depth + 1) for one in formats]
    described: Any = {"names": names, "formats": inner, "offsets": offsets, "itemsize": itemsize}
    if any(title is not None for title in titles):
        described["titles"] = titles
    dtype: np.dtype[Any] = np.dtype(described)
    if dtype.hasobject:
        raise CodecError("the header of the record is wrong: objects cannot be read from bytes")
    return dtype


@lru_cache(maxsize=256)
def _named(text: str) -> np.dtype[Any]:
    if not _DTYPE.fullmatch(text):
        raise CodecError(f"the header of the record is wrong: {text[:80]!r} is not a dtype")
    return np.dtype(text)


def buffer_of(array: np.ndarray[Any, Any], path: str) -> tuple[memoryview, str]:
    """Return the memory of an array as bytes, and its order, "C" or "F"; a copy only if it is not contiguous."""
    order = "C"
    if type(array) is not np.ndarray:
        if isinstance(array, np.ma.MaskedArray):
            raise CodecError(
                f"{path}: a masked array cannot be written as bytes; write its data and its mask separately"
            )
        array = array.view(np.ndarray)
    if array.flags.c_contiguous:
        if array.dtype.char in _CAST and array.nbytes and array.dtype.isnative:  # the common case, twice as fast
            return array.data.cast("B"), order
    elif array.flags.f_contiguous:
        array, order = array.T, "F"
    else:
        array = np.ascontiguousarray(array)
    if array.nbytes == 0:
        return memoryview(b""), order
    return array.reshape(-1).view(np.uint8).data, order


def array_of(buffer: memoryview, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    """Return a view of a buffer as an array, if the buffer has exactly the size that dtype and shape need."""
    described = _named(dtype) if type(dtype) is str else dtype_from_plain(dtype)
    size = math.prod(_checked_shape(shape)) * described.itemsize
    if size != len(buffer):
        raise CodecError(
            f"the header of the record is wrong: an array of shape {str(shape)[:80]} and dtype {str(described)[:80]} "
            f"takes {str(size)[:30]} bytes, its buffer has {len(buffer)}"
        )
    if order not in ("C", "F"):
        raise CodecError(f"the header of the record is wrong: {str(order)[:80]!r} is not an array order")
    return np.ndarray(shape, described, buffer, 0, None, order)  # by position: twice as fast


def _checked_shape(shape: Any) -> list[int]:
    if type(shape) is list and len(shape) <= 64:
        for size in shape:
            if type(size) is not int or size < 0:
                break
        else:
            return shape
    raise CodecError(f"the header of the record is wrong: {str(shape)[:80]} is not a shape")
