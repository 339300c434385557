"""RecordDecoder and JsonDecoder: bytes as records, and JSON text as data."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import ClassVar

import attrs

from penstock.codec import decode
from penstock.errors import CodecError, DecodeError
from penstock.record import Record


@attrs.define(kw_only=True)
class RecordDecoder:
    """Turn bytes written by `penstock.codec` into their record, whatever their transport.

    The record is returned as it was written, with the channel of the packet if it has none. Its arrays are
    views of the packet's bytes, read-only. It keeps nothing: each packet is one record.
    """

    takes: ClassVar[str] = "bytes"
    gives: ClassVar[str] = "any"
    own_identity: ClassVar[bool] = True

    def decode(self, record: Record) -> Iterable[Record]:
        """Return the record. Raises DecodeError."""
        try:
            held = decode(record.data)
        except (CodecError, TypeError, BufferError) as error:
            raise DecodeError(f"packet {record.seq} of channel {record.channel!r}: {error}") from error
        return [held.replace(channel=held.channel or record.channel, parent=record)]

    def flush(self) -> Iterable[Record]:
        """Return nothing: nothing is inside."""
        return ()

    def reset(self) -> None:
        """Do nothing: no packet depends on another."""


@attrs.define(kw_only=True)
class JsonDecoder:
    """Turn JSON text (UTF-8) into its value; the rest of the record stays as it is. It keeps nothing."""

    takes: ClassVar[str] = "bytes"
    gives: ClassVar[str] = "any"

    def decode(self, record: Record) -> Iterable[Record]:
        """Return the record with the decoded text as data. Raises DecodeError."""
        try:
            text = record.data
            data = json.loads(text.tobytes() if isinstance(text, memoryview) else text)
        except (ValueError, TypeError, RecursionError) as error:
            raise DecodeError(
                f"packet {record.seq} of channel {record.channel!r} is not JSON: {error}; it begins with "
                f"{record.data!r:.40}"
            ) from error
        return [record.replace(data=data, parent=record)]

    def flush(self) -> Iterable[Record]:
        """Return nothing: nothing is inside."""
        return ()

    def reset(self) -> None:
        """Do nothing: no packet depends on another."""
