"""Reading the CBOR of HEROs: bounded in depth and length, executes nothing, leaves unknown tags undecoded."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import prod
from typing import Any, NamedTuple
from uuid import UUID

import numpy

from penstock.errors import CodecError
from penstock_zenoh.hero.tagged import ARRAY, Tagged

DEPTH = 64
"""The greatest nesting depth of values."""
_MOST_DIMENSIONS = 32
_MOST_INTEGER_BYTES = 1024
_MOST_EXPONENT = 10_000
_DTYPE = re.compile(rb"[<>=|]?(bool|u?int(8|16|32|64)|float(16|32|64|128)|complex(64|128|256)|[biufcSU]\d{1,9})")
_COUNTS = {24: struct.Struct(">B"), 25: struct.Struct(">H"), 26: struct.Struct(">I"), 27: struct.Struct(">Q")}
_FLOATS = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Decode = Callable[[Any], Any]


def decode(payload: bytes) -> Any:
    """Return the value of one CBOR item; arrays are read-only views of `payload`.

    Raises:
        CodecError: the payload is truncated, has trailing bytes, is nested deeper than `DEPTH`, has a length beyond its
            end, or holds an array whose dtype has Python objects or fields. No memory is allocated for a length that
            the payload does not have.
    """
    reader = Reader(payload)
    try:
        value = reader.item(DEPTH)
    except CodecError:
        raise
    except (ValueError, TypeError, ArithmeticError, LookupError, RecursionError) as error:
        raise CodecError(f"invalid CBOR at byte {reader.at}: {error}") from error
    if reader.at != reader.size:
        raise CodecError(f"{reader.size - reader.at} bytes follow the CBOR item that ends at byte {reader.at}")
    return value


class Reader:
    """A payload and the position up to which it has been read."""

    def __init__(self, payload: bytes) -> None:
        self.payload = bytes(payload)  # bytes are not copied
        self.size = len(payload)
        self.at = 0

    def item(self, depth: int, *, views: bool = False) -> Any:
        """Return the next item; with `views`, byte strings (also in a list) are views of the payload."""
        if depth == 0:
            raise CodecError(f"CBOR is nested deeper than {DEPTH} at byte {self.at}")
        at = self.at
        if at >= self.size:
            self.check(1)
        head = self.payload[at]
        self.at = at + 1
        major, count = head >> 5, head & 31
        if major == 7:
            return self.simple(count)
        if count >= 24:
            form = _COUNTS.get(count)
            if form is None:
                raise CodecError(f"CBOR of indefinite length, which HEROs do not send, before byte {at + 1}")
            self.at = end = at + 1 + form.size
            if end > self.size:
                self.at = at + 1
                self.check(form.size)
            (count,) = form.unpack_from(self.payload, at + 1)
        if major == 0:
            return count
        if major == 1:
            return -1 - count
        if major == 2:
            return self.view(count) if views else self.take(count)
        if major == 3:
            return self.take(count).decode()
        if major == 6:
            return self.tagged(count, depth)
        self.check(count if major == 4 else 2 * count)  # each item has at least one byte
        if major == 4:
            return [self.item(depth - 1, views=views) for _ in range(count)]
        return self.mapping(count, depth)

    def mapping(self, count: int, depth: int) -> dict[Any, Any]:
        """Return a map of `count` pairs."""
        found: dict[Any, Any] = {}
        for _ in range(count):
            key = self.item(depth - 1)
            if type(key) is list:
                key = _hashable(key)
            if key in found:
                raise CodecError(f"a CBOR map has the key {key!r:.60} twice, before byte {self.at}")
            found[key] = self.item(depth - 1)
        return found

    def simple(self, info: int) -> Any:
        """Return a float, True, False or None."""
        if info in _FLOATS:
            form = _FLOATS[info]
            return form.unpack(self.take(form.size))[0]
        if info not in (20, 21, 22, 23):
            raise CodecError(f"CBOR has the unsupported simple value {info} before byte {self.at}")
        return (False, True, None, None)[info - 20]

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        self.check(count)
        self.at += count
        return self.payload[self.at - count : self.at]

    def view(self, count: int) -> memoryview:
        """Return a read-only view of the next bytes."""
        self.check(count)
        self.at += count
        return memoryview(self.payload)[self.at - count : self.at]

    def check(self, count: int) -> None:
        """Refuse a length beyond the end of the payload."""
        if count > self.size - self.at:
            raise CodecError(f"CBOR ends after {self.size} bytes, where {count} more should follow byte {self.at}")

    def tagged(self, tag: int, depth: int) -> Any:
        """Return the decoded content of a tag; an unknown tag stays a `Tagged`."""
        if tag == ARRAY:
            return self.array(depth)
        content = self.item(depth - 1)
        known = _TAGS.get(tag)
        return Tagged(tag, content) if known is None else known(content)

    def array(self, depth: int) -> Any:
        """Return an array; the frames of a camera have the same head, which is read and checked once."""
        start, last = self.at, _last_head[0]
        if last is not None and depth > _ARRAY_DEPTH and self.payload.startswith(last.head, start):
            at = start + len(last.head)
            if last.size_bytes <= self.size - at:
                self.at = at + last.size_bytes
                return numpy.ndarray(last.shape, last.dtype, self.payload, at)
        array = _array(self.item(depth - 1, views=True))
        if array.size:
            head = self.payload[start : self.at - array.nbytes]
            _last_head[0] = _Head(head, array.shape, array.dtype, array.nbytes)
        return array


class _Head(NamedTuple):
    """The bytes before the data of an array, and their meaning."""

    head: bytes
    shape: tuple[int, ...]
    dtype: numpy.dtype[Any]
    size_bytes: int


_last_head: list[_Head | None] = [None]
_ARRAY_DEPTH = 3
"""How deep an array is nested in itself."""


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _array(content: Any) -> Any:
    if not isinstance(content, list) or len(content) != 3:
        raise CodecError("an array does not consist of shape, dtype and data")
    shape, name, data = content
    if not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS or any(type(each) is not int for each in shape):
        raise CodecError(f"an array has the invalid shape {shape!r:.60}")
    kind = name.encode() if isinstance(name, str) else bytes(name) if isinstance(name, memoryview) else b""
    if not _DTYPE.fullmatch(kind):
        raise CodecError(f"an array has the dtype {kind[:60]!r}, which is not numeric, text or bytes")
    dtype = numpy.dtype(kind.decode())
    if not isinstance(data, memoryview) or min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != len(data):
        raise CodecError(f"an array of shape {shape} and dtype {dtype} does not fit its data")
    if not len(data):
        if prod(shape):
            raise CodecError(f"an array of shape {shape} has elements of zero bytes")
        return numpy.zeros(shape, dtype)
    return numpy.frombuffer(data, dtype).reshape(shape)


def _integer(content: Any) -> int:
    if not isinstance(content, bytes) or len(content) > _MOST_INTEGER_BYTES:
        raise CodecError("a bignum does not consist of bytes, or has too many")
    return int.from_bytes(content, "big")


def _decimal(content: Any) -> Decimal:
    exponent, mantissa = content
    if abs(exponent) > _MOST_EXPONENT or type(mantissa) is not int:
        raise CodecError(f"a decimal has the unsupported exponent {exponent}")
    return Decimal(mantissa).scaleb(exponent) if abs(mantissa) < 10**28 else Decimal(f"{mantissa}e{exponent}")


def _pair(content: Any) -> tuple[Any, Any]:
    first, second = content
    return first, second


_TAGS: dict[int, _Decode] = {
    0: datetime.fromisoformat,
    1: lambda content: _EPOCH + timedelta(seconds=content),
    2: _integer,
    3: lambda content: -1 - _integer(content),
    4: _decimal,
    30: lambda content: Fraction(*_pair(content)),
    37: lambda content: UUID(bytes=content),
    100: lambda content: date(1970, 1, 1) + timedelta(days=content),
    258: lambda content: set(map(_hashable, content)),
    1004: date.fromisoformat,
    43000: lambda content: complex(*map(float, _pair(content))),
}
