"""Records packed for other ends of penstock: a list of small ones in one message, a large one without its header.

Only sources of this plugin can read them; `penstock_zenoh.presence` knows whether anybody else listens.
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
"""Data of at most so many bytes go into lists."""
MOST_RECORDS = 256
MOST_BYTES = 256 << 10
"""How many records, and about how many bytes, one message takes."""
LARGE_BYTES = 128 << 10
"""From so many bytes on, data go as the payload itself, with the rest of the record in the attachment."""

_NOWHERE = Record(None).coords
_encode = msgspec.msgpack.Encoder().encode


class _Row(msgspec.Struct, array_like=True):
    """A record of bytes, with metadata that need no care."""

    channel: str
    seq: int
    time_ns: int
    discontinuity: bool
    metadata: dict[str, Any]
    data: bytes


_decode = msgspec.msgpack.Decoder(list[_Row | bytes]).decode


def is_small(record: Record) -> bool:
    """Return whether a record may go into a list. What is no bytes may be small, too, but to know it costs too much."""
    data = record.data
    return type(data) is bytes and len(data) <= SMALL_BYTES and record.parent is None


def is_large(record: Record) -> bool:
    """Return whether the data of a record should be a payload of their own."""
    return type(record.data) is bytes and len(record.data) >= LARGE_BYTES and record.parent is None


def pack_list(records: Sequence[Record]) -> bytes:
    """Return small records as one message. Raises CodecError, OverflowError or UnicodeEncodeError for an odd one."""
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
    """Return the records of a message. Raises CodecError if it is none of so many records."""
    try:
        rows = _decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CodecError(f"these bytes are no list of records: {error}") from error
    if len(rows) != count:
        raise CodecError(f"a list of records has {len(rows)} of them, and says that it has {count}")
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
    """Return all of a record without its data. Raises CodecError."""
    return encode_bytes(record.replace(data=None))


def join(head: bytes, payload: bytes) -> Record:
    """Return the record of a head and its data. Raises CodecError."""
    return decode(head).replace(data=payload)
