"""The content of a block: encoded records, or, if all of them are small and plain, a bundle.

A block begins with the offset and size of each record as pairs of unsigned 64-bit numbers. A bundle begins with 0 and
its size instead (`bundle.py`), and a block that refers to other shared memory begins with ones (`reference.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

import attrs
import numpy as np

from penstock.codec import decode, encode
from penstock.errors import CodecError, StoreError
from penstock.record import Record
from penstock_shm.channel.bundle import MARK, SMALL_BYTES, bundled, unbundled
from penstock_shm.channel.reference import MARK as ELSEWHERE
from penstock_shm.channel.reference import referred, referring
from penstock_shm.channel.shared import Place

_ALIGNED = 64
_GROUP_BYTES = 256 << 10
_GROUP_RECORDS = 1024


@attrs.define(eq=False)
class Packed:
    """The layout of records in a block of `size` bytes: pieces with their offsets, and the places they refer to."""

    records: Sequence[Record]
    size: int
    pieces: Sequence[tuple[int, bytes | bytearray | memoryview]]
    places: Sequence[Place] = ()


@attrs.define(eq=False)
class _Part:
    record: Record
    buffers: Sequence[memoryview]
    size: int


def pack(
    records: Sequence[Record], failed: list[tuple[Record, BaseException]], owner: object = None
) -> Sequence[Packed]:
    """Return the records in groups of one block each, in order; those that cannot be encoded go to `failed`.

    Large arrays that lie in memory of the `owner`, or that were received, are referenced instead of copied.
    """
    bundles = _bundles(records)
    return list(_encoded(records, failed, owner)) if bundles is None else bundles


def _encoded(records: Sequence[Record], failed: list[tuple[Record, BaseException]], owner: object) -> Iterator[Packed]:
    """Yield the records in groups, each written by the codec."""
    pending: list[_Part] = []
    total = 0
    for record in records:
        try:
            encoded = encode(record)
        except CodecError as error:
            failed.append((record, error))
            continue
        if (found := referring(encoded, owner)) is not None:
            if pending:
                yield _group(pending)
                pending, total = [], 0
            content, places = found
            yield Packed([record], len(content), [(0, content)], places)
            continue
        buffers = [memoryview(buffer) for buffer in encoded if len(buffer)]
        size = sum([b.nbytes for b in buffers])
        if pending and (total + size > _GROUP_BYTES or len(pending) >= _GROUP_RECORDS):
            yield _group(pending)
            pending, total = [], 0
        pending.append(_Part(record, buffers, size))
        total += size
    if pending:
        yield _group(pending)


def _bundles(records: Sequence[Record]) -> list[Packed] | None:
    """Return the records in bundles, or None if they need the codec."""
    bundles = []
    try:
        for start in range(0, len(records), _GROUP_RECORDS):
            part = records[start : start + _GROUP_RECORDS] if len(records) > _GROUP_RECORDS else records
            content = bundled(part)
            if content is None:
                return None
            bundles.append(Packed(part, len(content), [(0, content)]))
    except (OverflowError, UnicodeError):
        return None  # a number of more than 64 bits, or a lone surrogate
    return bundles


def warm_up() -> None:
    """Import the modules that arrays need, so that the first frame is not delayed."""
    for group in pack([Record(np.zeros(1))], []):
        unpack(memoryview(b"".join(bytes(piece) for _, piece in group.pieces)), 1, ())


def unpack(
    view: memoryview, count: int, indices: Sequence[int], outside: Callable[[int, int, int], memoryview] | None = None
) -> list[Record]:
    """Return the records of a block of `count` records, or those at `indices`; their arrays are views of the block.

    Raises:
        StoreError: a record lies outside of the block.
        CodecError: its content is not a record.
    """
    try:
        if view[:8] == MARK:
            bundle = unbundled(view)
            return [bundle[index] for index in indices] if indices else bundle
        if view[:8] == ELSEWHERE and outside is not None:
            return [referred(view, outside)]
        table = struct.unpack_from(f"<{2 * count}Q", view)
        found = []
        for index in indices or range(count):
            start, size = table[2 * index : 2 * index + 2]
            if start + size > len(view):
                raise StoreError(f"a record lies at {start}+{size} of a block of {len(view)} bytes")
            found.append(decode(view[start : start + size]))
        return found
    except (struct.error, IndexError, ValueError) as error:
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
    if at <= 4 * SMALL_BYTES:
        pieces = [(0, _joined(head, pieces))]
    else:
        pieces.insert(0, (0, head))
    return Packed([part.record for part in parts], at, pieces)


def _joined(head: bytes, pieces: Sequence[tuple[int, bytes | memoryview]]) -> bytes:
    """Join small pieces, so that one copy is made instead of many."""
    row: list[bytes | memoryview] = [head]
    end = len(head)
    for start, piece in pieces:
        if start > end:
            row.append(bytes(start - end))
        row.append(piece)
        end = start + len(piece)
    return b"".join(row)


def _up(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
