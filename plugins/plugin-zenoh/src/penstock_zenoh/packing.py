"""Packed records for penstock sources: a list of small ones in one message, or a large one with a separate header.

Only sources of this plugin can read them; `penstock_zenoh.announcement` finds out whether others are connected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.codec import decode, encode_bytes
from penstock.codec.values import is_flat, is_plain
from penstock.errors import CodecError
from penstock.fields import is_exact
from penstock.record import Record

SMALL_BYTES = 16 << 10
"""Largest data, in bytes, of a record that is sent in a list."""
MOST_RECORDS = 256
MOST_BYTES = 256 << 10
"""Limits of one list: its number of records, and its approximate number of bytes."""
LARGE_BYTES = 128 << 10
"""Size in bytes from which data are the payload itself, with the rest of the record in the attachment."""

_NOWHERE = Record(None).coords
_encode = msgspec.msgpack.Encoder().encode


class _Row(msgspec.Struct, array_like=True):
    """A record of bytes with plain metadata."""

    channel: str
    seq: int
    time_ns: int
    discontinuity: bool
    metadata: dict[str, Any]
    data: bytes


_decode = msgspec.msgpack.Decoder(list[_Row | bytes]).decode


def is_small(record: Record) -> bool:
    """Return whether a record may be sent in a list. Only bytes: measuring other data would cost too much."""
    data = record.data
    return type(data) is bytes and len(data) <= SMALL_BYTES and record.parent is None


def is_large(record: Record) -> bool:
    """Return whether the data of a record should be sent as the payload itself."""
    return type(record.data) is bytes and len(record.data) >= LARGE_BYTES and record.parent is None


def pack_list(records: Sequence[Record]) -> bytes:
    """Return small records as one message.

    Raises:
        CodecError, OverflowError, UnicodeEncodeError: a record cannot be part of a list.
    """
    rows: list[Any] = []
    for record in records:
        metadata = record.metadata
        is_row = record.coords is _NOWHERE and type(metadata) is dict and (not metadata or is_plain(metadata))
        if is_row and is_exact(record):
            rows.append((record.channel, record.seq, record.time_ns, record.discontinuity, metadata, record.data))
        else:
            rows.append(encode_bytes(record))
    return _encode(rows)


def unpack_list(payload: bytes, count: int) -> list[Record]:
    """Return the records of a message. Raises CodecError if it is invalid or does not hold `count` records."""
    try:
        rows = _decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CodecError(f"these bytes are not a list of records: {error}") from error
    if len(rows) != count:
        raise CodecError(f"a list of records has {len(rows)} records instead of {count}")
    records = []
    for row in rows:
        if type(row) is not _Row:
            records.append(decode(row))
            continue
        metadata = row.metadata
        if metadata and not is_flat(metadata):
            raise CodecError("the metadata in a list of records are nested")
        records.append(
            Record(
                row.data,
                channel=row.channel,
                seq=row.seq,
                time_ns=row.time_ns,
                metadata=metadata,
                discontinuity=row.discontinuity,
            )
        )
    return records


def head_of(record: Record) -> bytes:
    """Return a record without its data, encoded. Raises CodecError."""
    return encode_bytes(record.replace(data=None))


def join(head: bytes, payload: bytes) -> Record:
    """Return the record made of an encoded head and its data. Raises CodecError."""
    return decode(head).replace(data=payload)
