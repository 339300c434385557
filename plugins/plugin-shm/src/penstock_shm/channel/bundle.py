"""A bundle: small records with plain fields, encoded in columns, which is cheaper than one by one."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from penstock.coords import DataCoordinates
from penstock.errors import StoreError
from penstock.record import Record

SMALL_BYTES = 16 << 10
"""Largest size of bytes or text in a bundle."""

MARK = bytes(8)
"""The first number of a bundle, instead of the offset of a first record."""

_HEAD = struct.Struct("<QQ")
_PLAIN = frozenset((str, int, float, bool, type(None)))
_TEXTS = frozenset((bytes, str))
_DATA = _PLAIN | _TEXTS
_NOWHERE = Record(None).coords

_Columns = tuple[
    str | list[tuple[str, int]],
    list[int],
    int | list[int],
    list[dict[str, int | str]] | None,
    list[dict[str, bool | int | float | str | None]] | None,
    list[bool] | None,
    list[Any],
]
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Columns)


def bundled(records: Sequence[Record]) -> bytearray | None:
    """Return the bytes of a bundle; None if a record is not small and plain. Raises OverflowError, UnicodeError."""
    columns = _columns_of_one(records[0]) if len(records) == 1 else _columns(records)
    if columns is None:
        return None
    content = bytearray(_HEAD.size)  # written to in place: a second copy costs more than all the rest
    _encoder.encode_into(columns, content, _HEAD.size)
    _HEAD.pack_into(content, 0, 0, len(content) - _HEAD.size)
    return content


def unbundled(view: memoryview) -> list[Record]:
    """Return copies of the records of a bundle.

    Raises:
        StoreError: the content is not a bundle.
    """
    try:
        _, size = _HEAD.unpack_from(view)
        channels, seqs, times, coords, metadata, marks, data = _decoder.decode(view[_HEAD.size : _HEAD.size + size])
        count = len(data)
        names = [channels] * count if type(channels) is str else [name for name, n in channels for _ in range(n)]
        stamps = [times] * count if type(times) is int else times
        rows = zip(data, names, seqs, stamps, strict=True)
        if coords is None and metadata is None and marks is None:
            return [Record(each, channel=name, seq=seq, time_ns=time_ns) for each, name, seq, time_ns in rows]
        beside = zip(coords or [{}] * count, metadata or [None] * count, marks or [False] * count, strict=True)
        return [
            Record(
                each,
                channel=name,
                seq=seq,
                time_ns=time_ns,
                coords=DataCoordinates(place) if place else _NOWHERE,
                metadata=more or {},
                discontinuity=mark,
            )
            for (each, name, seq, time_ns), (place, more, mark) in zip(rows, beside, strict=True)
        ]
    except (struct.error, ValueError, TypeError, msgspec.DecodeError) as error:
        raise StoreError(f"a bundle in a block of {len(view)} bytes cannot be read: {error}") from error


def _columns(records: Sequence[Record]) -> _Columns | None:
    data = [record.data for record in records]
    kinds = set(map(type, data))
    if not (kinds <= _DATA and _are_small(data, kinds)):
        return None
    if any([record.parent is not None for record in records]):  # noqa: C419 - a list takes half the time
        return None
    metadata: list[Any] = [record.metadata for record in records]
    has_metadata = any(metadata)
    if has_metadata and not all(map(_is_plain, metadata)):
        return None
    coords = [record.coords for record in records]
    nowhere = coords.count(_NOWHERE) == len(coords)
    marks = [record.discontinuity for record in records]
    return (
        _runs([record.channel for record in records]),
        [record.seq for record in records],
        _one_or_all([record.time_ns for record in records]),
        None if nowhere else [dict(each) for each in coords],
        metadata if has_metadata else None,
        marks if True in marks else None,
        data,
    )


def _columns_of_one(record: Record) -> _Columns | None:
    """Return the same for a single record, in a fifth of the time."""
    data, coords = record.data, record.coords
    metadata: Any = record.metadata
    kind = type(data)
    if kind not in _DATA or record.parent is not None or (kind in _TEXTS and len(data) > SMALL_BYTES):
        return None
    if metadata and not _is_plain(metadata):
        return None
    return (
        record.channel,
        [record.seq],
        record.time_ns,
        None if coords is _NOWHERE else [dict(coords)],
        [metadata] if metadata else None,
        [record.discontinuity] if record.discontinuity else None,
        [data],
    )


def _are_small(data: Sequence[Any], kinds: set[type]) -> bool:
    if kinds.isdisjoint(_TEXTS):
        return True
    texts = data if kinds <= _TEXTS else [each for each in data if type(each) in _TEXTS]
    return max(map(len, texts)) <= SMALL_BYTES


def _is_plain(metadata: Mapping[str, Any]) -> bool:
    return (
        type(metadata) is dict
        and _PLAIN.issuperset(map(type, metadata.values()))
        and all(type(key) is str for key in metadata)
    )


def _runs(channels: Sequence[str]) -> str | list[tuple[str, int]]:
    """Return the channel if all are equal, otherwise the run lengths of the channels."""
    if channels.count(channels[0]) == len(channels):
        return channels[0]
    return [(channel, len(list(same))) for channel, same in groupby(channels)]


def _one_or_all(values: list[int]) -> int | list[int]:
    return values[0] if values.count(values[0]) == len(values) else values
