"""A referring block: a record whose large arrays already lie in shared memory.

The block begins with eight bytes of ones, the count of segments and the size of the rest; the number of each segment
follows, all as 64-bit numbers, then msgpack of the record's head and its buffers: bytes, or the index of a segment with
offset and size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import msgspec

from penstock.codec import decode_parts
from penstock.errors import StoreError
from penstock.record import Record
from penstock_shm.channel.shared import Place, place_of

MARK = b"\xff" * 8
"""The first bytes of a referring block."""
LARGE_BYTES = 64 << 10
"""Smallest size in bytes of a referenced buffer; smaller ones are copied into the block."""

_HEAD = struct.Struct("<8sII")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[bytes, list[bytes | tuple[int, int, int]]])


def referring(parts: Sequence[bytes | memoryview], owner: object) -> tuple[bytes, list[Place]] | None:
    """Return the content of a block for an encoded record, and the places that it refers to.

    None if one of its large buffers lies neither in memory of this owner nor in a received block.
    """
    if not any(len(part) >= LARGE_BYTES for part in parts):
        return None
    places: list[Place] = []
    buffers: list[bytes | tuple[int, int, int]] = []
    for buffer in parts[2::2]:  # padding between them
        if len(buffer) < LARGE_BYTES:
            buffers.append(bytes(buffer))
            continue
        place = place_of(memoryview(buffer), owner)
        if place is None:
            return None
        buffers.append((len(places), place.at, place.size))
        places.append(place)
    body = _encoder.encode((bytes(parts[0]), buffers))
    return _HEAD.pack(MARK, len(places), len(body)) + bytes(8 * len(places)) + body, places


def put_numbers(memory: memoryview, numbers: Sequence[int]) -> None:
    """Write the segment numbers into the content of a referring block."""
    struct.pack_into(f"<{len(numbers)}Q", memory, _HEAD.size, *numbers)


def referred(view: memoryview, outside: Callable[[int, int, int], memoryview]) -> Record:
    """Return the record of a referring block; `outside` returns memory by segment, offset and size.

    Raises:
        StoreError: a buffer lies outside of the known memory.
        CodecError: its content is not a record.
    """
    try:
        _, count, size = _HEAD.unpack_from(view)
        numbers = struct.unpack_from(f"<{count}Q", view, _HEAD.size)
        start = _HEAD.size + 8 * count
        head, buffers = _decoder.decode(view[start : start + size])
        found = [
            memoryview(each) if isinstance(each, bytes) else outside(numbers[each[0]], each[1], each[2])
            for each in buffers
        ]
    except (struct.error, IndexError, msgspec.DecodeError) as error:
        raise StoreError(f"a block of {len(view)} bytes cannot be read: {error}") from error
    return decode_parts(head, found)
