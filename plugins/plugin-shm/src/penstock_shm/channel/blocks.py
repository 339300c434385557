"""The content of a block: several encoded records; or, if all are small and plain, one bundle of them.

A block begins with the offset and size of each record, as pairs of unsigned 64-bit numbers. A bundle begins with 0 and
its size instead, and is msgpack: thousands of small packets a second would spend most of their time in headers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import msgspec
import numpy as np

from penstock.codec import decode, encode
from penstock.coords import DataCoordinates
from penstock.errors import CodecError, StoreError
from penstock.record import Record

_ALIGNED = 64
_GROUP_BYTES = 256 << 10
_GROUP_RECORDS = 1024
_SMALL_BYTES = 16 << 10
_BUNDLE = struct.Struct("<QQ")
_PLAIN = frozenset((str, int, float, bool, type(None)))
_TEXTS = frozenset((bytes, str))
_NOWHERE = DataCoordinates()

_Row = tuple[str, int, int, dict[str, int | str] | None, dict[str, bool | int | float | str | None] | None, bool, Any]
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Row])


@attrs.frozen(eq=False)
class Packed:
    """Records laid out for a block of `size` bytes: pieces, each with its offset."""

    records: Sequence[Record]
    size: int
    pieces: Sequence[tuple[int, bytes | memoryview]]


@attrs.frozen(eq=False)
class _Part:
    record: Record
    buffers: Sequence[memoryview]
    size: int


def pack(records: Sequence[Record], failed: list[tuple[Record, BaseException]]) -> Iterator[Packed]:
    """Yield the records in groups of one block each, in order; those that cannot be encoded go to `failed`."""
    if all(map(_is_small_and_plain, records)):
        try:
            yield from [_bundle(records[i : i + _GROUP_RECORDS]) for i in range(0, len(records), _GROUP_RECORDS)]
            return
        except (OverflowError, UnicodeError):
            pass  # a number of more than 64 bits, or half a character: the codec handles them
    pending: list[_Part] = []
    total = 0
    for record in records:
        try:
            buffers = [memoryview(buffer) for buffer in encode(record) if len(buffer)]
        except CodecError as error:
            failed.append((record, error))
            continue
        size = sum([b.nbytes for b in buffers])
        if pending and (total + size > _GROUP_BYTES or len(pending) >= _GROUP_RECORDS):
            yield _group(pending)
            pending, total = [], 0
        pending.append(_Part(record, buffers, size))
        total += size
    if pending:
        yield _group(pending)


def warm_up() -> None:
    """Import the modules that arrays need, so that the first frame does not wait for them."""
    for group in pack([Record(np.zeros(1))], []):
        unpack(memoryview(b"".join(bytes(piece) for _, piece in group.pieces)), 1, ())


def unpack(view: memoryview, count: int, indices: Sequence[int]) -> list[Record]:
    """Return the records of a block of `count`, or those of these indices; their arrays are views of the block.

    Raises:
        StoreError: the block points outside of itself.
        CodecError: its content is not a record.
    """
    try:
        if view[:8] == bytes(8):
            size = _BUNDLE.unpack_from(view)[1]
            rows = _decoder.decode(view[_BUNDLE.size : _BUNDLE.size + size])
            return [_from_row(rows[i]) for i in indices] if indices else list(map(_from_row, rows))
        table = struct.unpack_from(f"<{2 * count}Q", view)
        found = []
        for index in indices or range(count):
            start, size = table[2 * index : 2 * index + 2]
            if start + size > len(view):
                raise StoreError(f"a record lies at {start}+{size} of a block of {len(view)} bytes")
            found.append(decode(view[start : start + size]))
        return found
    except (struct.error, IndexError, ValueError, msgspec.DecodeError) as error:
        if isinstance(error, CodecError):
            raise
        raise StoreError(f"a block of {len(view)} bytes cannot be read: {error}") from error


def _group(parts: Sequence[_Part]) -> Packed:
    at = _up(16 * len(parts))
    table: list[int] = []
    pieces: list[tuple[int, bytes | memoryview]] = []
    for part in parts:
        table += (at, part.size)
        end = at
        for buffer in part.buffers:
            pieces.append((end, buffer))
            end += buffer.nbytes
        at = _up(end)
    head = struct.pack(f"<{len(table)}Q", *table)
    if at <= 4 * _SMALL_BYTES:
        pieces = [(0, _joined(head, pieces))]
    else:
        pieces.insert(0, (0, head))
    return Packed([part.record for part in parts], at, pieces)


def _joined(head: bytes, pieces: Sequence[tuple[int, bytes | memoryview]]) -> bytes:
    """Join small pieces, so that they need one copy instead of many."""
    row: list[bytes | memoryview] = [head]
    end = len(head)
    for start, piece in pieces:
        if start > end:
            row.append(bytes(start - end))
        row.append(piece)
        end = start + len(piece)
    return b"".join(row)


def _is_small_and_plain(record: Record) -> bool:
    data, metadata = record.data, record.metadata
    return (
        (type(data) in _PLAIN if type(data) not in _TEXTS else len(data) <= _SMALL_BYTES)
        and record.parent is None
        and (
            not metadata
            or (
                type(metadata) is dict
                and _PLAIN.issuperset(map(type, metadata.values()))
                and all(map(_is_text, metadata))
            )
        )
    )


def _is_text(key: object) -> bool:
    return type(key) is str


def _bundle(records: Sequence[Record]) -> Packed:
    body = _encoder.encode(
        [
            (
                record.channel,
                record.seq,
                record.time_ns,
                dict(record.coords) if record.coords else None,
                record.metadata or None,
                record.discontinuity,
                record.data,
            )
            for record in records
        ]
    )
    content = _BUNDLE.pack(0, len(body)) + body
    return Packed(records, len(content), [(0, content)])


def _from_row(row: _Row) -> Record:
    channel, seq, time_ns, coords, metadata, discontinuity, data = row
    return Record(
        data,
        channel=channel,
        seq=seq,
        time_ns=time_ns,
        coords=DataCoordinates(coords) if coords else _NOWHERE,
        metadata=metadata or {},
        discontinuity=discontinuity,
    )


def _up(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
