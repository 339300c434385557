"""The form of a HERO's last event (array, metadata): another event of the same form is read in fewer steps."""

from __future__ import annotations

import struct
from typing import Any

import attrs
import numpy

from penstock_zenoh.hero.cbor import DEPTH, Reader

_PAIR, _MAP = 0x82, 0xA0  # of two items; of as many pairs as are added
_MOST_KEYS = 23
_BYTES_OF = {24: 1, 25: 2, 26: 4, 27: 8}
"""How many bytes follow the first one of a whole number."""
_TEXT, _LONG_TEXT, _DOUBLE = 0x60, 0x78, 0xFB
_SIMPLE = {0xF4: False, 0xF5: True, 0xF6: None}
_double = struct.Struct(">d").unpack_from


@attrs.frozen
class PairForm:
    """The bytes that events of one HERO have in common, and their meaning.

    Attributes:
        head: The bytes before the data of the array; `start` is their number.
        shape: Of the array, as is `dtype`.
        end: Where the data of the array end.
        first: The bytes from there to the value of the first key.
        keys: The bytes before the value of each key of the metadata, their number, and the key.
    """

    head: bytes
    start: int
    shape: tuple[int, ...]
    dtype: numpy.dtype[Any]
    end: int
    first: bytes
    keys: tuple[tuple[bytes, int, str], ...]

    @classmethod
    def of(cls, payload: bytes, value: Any) -> PairForm | None:
        """Return the form of an event that was decoded to `value`, or None if it is not an array with metadata."""
        if type(value) is not list or len(value) != 2 or payload[0] != _PAIR:
            return None
        array, metadata = value
        if type(array) is not numpy.ndarray or not array.nbytes or type(metadata) is not dict:
            return None
        if not 0 < len(metadata) <= _MOST_KEYS or set(map(type, metadata)) != {str}:
            return None
        reader = Reader(payload)
        reader.at = 1
        reader.item(DEPTH)
        start = end = reader.at
        if payload[end] != _MAP + len(metadata):  # the number in a longer form
            return None
        reader.at = end + 1
        keys: list[tuple[bytes, int, str]] = []
        for name in metadata:
            reader.item(DEPTH)
            keys.append((payload[start : reader.at], reader.at - start, name))
            reader.item(DEPTH)
            start = reader.at
        head = payload[: end - array.nbytes]
        return cls(head, len(head), array.shape, array.dtype, end, keys[0][0], tuple(keys))

    def read(self, payload: bytes) -> tuple[Any, dict[str, Any]] | None:
        """Return array and metadata of an event as `decode` does; None if it has another form, or may be invalid."""
        at = self.end
        if not payload.startswith(self.first, at) or not payload.startswith(self.head):
            return None
        metadata: dict[str, Any] = {}
        try:
            for key, length, name in self.keys:
                if not payload.startswith(key, at):
                    return None
                at += length
                first = payload[at]
                at += 1
                if first < 24:
                    metadata[name] = first
                elif first <= 27:
                    start, at = at, at + _BYTES_OF[first]
                    metadata[name] = int.from_bytes(payload[start:at], "big")
                elif first == _DOUBLE:
                    (metadata[name],) = _double(payload, at)
                    at += 8
                elif _TEXT <= first < _LONG_TEXT:
                    start, at = at, at + first - _TEXT
                    metadata[name] = payload[start:at].decode()
                else:
                    metadata[name] = _SIMPLE[first]
        except (LookupError, ValueError, struct.error):  # `decode` reads it, or names the problem
            return None
        if at != len(payload):
            return None
        return numpy.ndarray(self.shape, self.dtype, payload, self.start), metadata


@attrs.define(eq=False)
class Sender:
    """A HERO's event, and the form of the last one, if it was an array with metadata."""

    realm: str
    hero: str
    event: str
    form: PairForm | None = None
