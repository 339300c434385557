"""The protocol between store and source beside the records: attachments, tokens, marks and receipts.

A record is published on the user's key as `penstock.codec` bytes, with an attachment of 28 bytes. If only penstock
sources can receive it, one message may hold several records, or the data of one alone (`Packed`). Everything else is
on keys that begin with the verbatim chunk `@penstock`, which a subscriber on `**` does not receive:

- `@penstock/1/source/<id>/<card>`: liveliness token of a source; the card holds its key expression and capacity.
- `@penstock/1/publisher/<id>/<card>`: liveliness token of a store; the card holds the key expression of its keys.
- `@penstock/1/session/<zid>`: liveliness token of a session of this plugin that relays to no other session.
- `@penstock/1/mark/<publisher>/<source>`: a store asks one source to confirm the records sent to it (`Mark`).
- `@penstock/1/receipt/<publisher>`: a source reports the numbers of received and taken records (`Receipt`).

No message is trusted: an unreadable one is read as `None`, never raised as an exception in a thread of zenoh.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import MutableMapping
from typing import Any, NamedTuple, TypeVar

import msgspec
import zenoh

from penstock.processes import is_alive

PREFIX = "@penstock/1"
SOURCES = f"{PREFIX}/source/*/*"
PUBLISHERS = f"{PREFIX}/publisher/*/*"
SESSIONS = f"{PREFIX}/session/*"
KEYS_REMEMBERED = 4096
"""Number of keys whose running number either end remembers; beyond it, the oldest key starts again at 0."""

MOST_CARD_KEY_BYTES = 30_000
"""The longest key expression, in bytes, that fits into a card, which is hexadecimal and part of a 64 KiB key."""

_MAGIC = b"PSZ1"
_ATTACHMENT = struct.Struct("<4s8sQQ")
_PACKED = struct.Struct("<4s8sQQI")
_PACKED_MAGIC = b"PSZ2"
_MOST_PROCESS = 400
_REPEATED_MAGIC = b"PSZ3"
_ID_BYTES = 8

_T = TypeVar("_T")


class SourceCard(msgspec.Struct, array_like=True, frozen=True):
    """The card of a source: its key expression, and its capacity in records and bytes."""

    key: str
    capacity: int
    capacity_bytes: int
    process: str


class PublisherCard(msgspec.Struct, array_like=True, frozen=True):
    """The card of a store: a key expression that includes all keys on which it may publish."""

    key: str
    process: str


_Card = TypeVar("_Card", bound=SourceCard | PublisherCard)


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """A request for a receipt; `last` is the running number of the last record sent to this source.

    With `is_final`, records that have not arrived are lost: `totals` has, for each key, the running numbers of the
    first record that was sent to this source and of the next one, from which the source counts its losses.
    """

    number: int
    last: int
    is_end: bool = False
    totals: dict[str, tuple[int, int]] = {}
    is_final: bool = False


class Receipt(msgspec.Struct, array_like=True, frozen=True):
    """A confirmation: `mark` is the last mark answered; `received`, `taken` are running numbers; `lost` counts records.

    `leaves` is True if the source closes and will not reconnect.
    """

    source: str
    mark: int
    received: int
    taken: int
    lost: int
    leaves: bool = False


def source_key(source: str, card: SourceCard) -> str:
    """Return the key of a source's token."""
    return f"{PREFIX}/source/{source}/{msgspec.msgpack.encode(card).hex()}"


def publisher_key(publisher: str, card: PublisherCard) -> str:
    """Return the key of a store's token."""
    return f"{PREFIX}/publisher/{publisher}/{msgspec.msgpack.encode(card).hex()}"


def mark_key(publisher: str, source: str) -> str:
    """Return the key on which this store sends marks to this source; either may be `*`."""
    return f"{PREFIX}/mark/{publisher}/{source}"


def receipt_key(publisher: str) -> str:
    """Return the key on which receipts come to this store."""
    return f"{PREFIX}/receipt/{publisher}"


def read_card(key: str, card: type[_Card]) -> tuple[str, _Card] | None:
    """Return the id and the card of a token, or None if the key is not one of this protocol."""
    chunks = key.split("/")
    try:
        read = msgspec.msgpack.decode(bytes.fromhex(chunks[4]), type=card)
    except (IndexError, ValueError, msgspec.MsgspecError):
        return None
    # Messages and reports print the name of its process: it must not move a terminal's cursor.
    return (chunks[3], read) if read.process.isprintable() and len(read.process) <= _MOST_PROCESS else None


def read_message(payload: bytes, kind: type[_T]) -> _T | None:
    """Return the mark or receipt in these bytes, or None."""
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (ValueError, msgspec.MsgspecError):
        return None


def attachment(publisher: str, number: int, key_number: int) -> bytes:
    """Return the attachment of a record: its running number at this publisher (from 1), and on this key (from 0)."""
    return _ATTACHMENT.pack(_MAGIC, bytes.fromhex(publisher), number, key_number)


def read_attachment(data: bytes) -> tuple[str, int, int] | None:
    """Return (publisher, running number, running number on the key), or None for a foreign attachment."""
    if len(data) != _ATTACHMENT.size:
        return None
    magic, publisher, number, key_number = _ATTACHMENT.unpack(data)
    return (publisher.hex(), number, key_number) if magic == _MAGIC else None


def repetition(source: str, attachment: bytes) -> bytes:
    """Return the attachment of a message that is sent again because this source has missed it."""
    return _REPEATED_MAGIC + bytes.fromhex(source) + attachment


def read_repetition(data: bytes) -> tuple[str | None, bytes]:
    """Return the source for which a message is sent again, or None, and its attachment without that."""
    end = len(_REPEATED_MAGIC) + _ID_BYTES
    if len(data) <= end or not data.startswith(_REPEATED_MAGIC):
        return None, data
    return data[len(_REPEATED_MAGIC) : end].hex(), data[end:]


class Packed(NamedTuple):
    """The attachment of a packed message, which only penstock sources can read.

    Attributes:
        publisher: The id of its publisher.
        number: The running number of its first record; `key_number` is the one on its key.
        records: Number of records in the payload (`packing.unpack_list`).
        head: If not empty, the payload is the data of one record, and this is the rest of the record (`packing.join`).
    """

    publisher: str
    number: int
    key_number: int
    records: int
    head: bytes


def packed_attachment(publisher: str, number: int, key_number: int, *, count: int = 1, head: bytes = b"") -> bytes:
    """Return the attachment of a packed message."""
    return _PACKED.pack(_PACKED_MAGIC, bytes.fromhex(publisher), number, key_number, count) + head


def read_packed(data: bytes) -> Packed | None:
    """Return the content of a packed message's attachment, or None for another attachment."""
    if len(data) < _PACKED.size or not data.startswith(_PACKED_MAGIC):
        return None
    _, publisher, number, key_number, count = _PACKED.unpack_from(data)
    head = data[_PACKED.size :]
    return Packed(publisher.hex(), number, key_number, count, head) if count and (count == 1 or not head) else None


def session_key(zid: str) -> str:
    """Return the key of a session's token."""
    return f"{PREFIX}/session/{zid}"


def new_id() -> str:
    """Return a random id of 16 hexadecimal digits."""
    return os.urandom(8).hex()


def this_process() -> str:
    """Return the name of this process for messages."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def is_dead(process: str) -> bool:
    """Return whether a result of `this_process` names a process of this machine that has ended."""
    words = process.split()
    if len(words) != 4 or words[3] != socket.gethostname() or not words[1].isdigit():
        return False
    return not is_alive(int(words[1]))


def intersects(expression: str, other: str) -> bool:
    """Return whether two key expressions have a key in common; False if one of them is invalid."""
    try:
        return bool(zenoh.KeyExpr(expression).intersects(other))
    except zenoh.ZError:
        return False


def remember(table: MutableMapping[str, Any], key: str, value: Any) -> None:
    """Put `value` into a dict, and remove its oldest entry beyond `KEYS_REMEMBERED`."""
    table[key] = value
    if len(table) > KEYS_REMEMBERED:
        del table[next(iter(table))]
