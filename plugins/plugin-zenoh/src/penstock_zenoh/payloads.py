"""Payloads of other programs: decoded by their encoding, and written so that other programs can read them."""

from __future__ import annotations

import json
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Literal

import zenoh

from penstock.codec import encode_bytes
from penstock.errors import CodecError
from penstock.record import Record
from penstock_zenoh.hero.cbor import decode as decode_cbor
from penstock_zenoh.hero.cbor_out import encode as encode_cbor
from penstock_zenoh.times import time_of
from penstock_zenoh.wire import remember

Form = Literal["record", "bytes", "json", "cbor"]
"""The payload of a store's messages: the whole record, for penstock; or the data alone, for other programs."""


def foreign_record(sample: zenoh.Sample, at_ns: int, seqs: MutableMapping[str, int], *, by_encoding: bool) -> Record:
    """Return a record of a foreign sample: its payload as data, its key as channel, numbered on by `seqs`.

    Raises:
        CodecError: the payload does not match its encoding; only with `by_encoding`. Its number is used up.
    """
    (record,) = foreign_records((sample,), at_ns, seqs)
    if by_encoding:
        encoding = record.metadata["encoding"]
        read = _READ.get(encoding.partition(";")[0])
        if read is not None:
            return record.replace(data=_read(read, record.data, encoding))
    return record


def foreign_records(samples: Sequence[zenoh.Sample], at_ns: int, seqs: MutableMapping[str, int]) -> list[Record]:
    """Return records of foreign samples: their payloads as data, their keys as channels, numbered on by `seqs`.

    Samples of one sender share key and encoding, so that each is converted to text once.
    """
    records: list[Record] = []
    key, seq, encoding, said = "", 0, None, ""
    for sample in samples:
        if (its := str(sample.key_expr)) != key:
            if key:
                remember(seqs, key, seq)
            key = its
            seq = seqs.get(key, 0)
        if (form := sample.encoding) != encoding:
            encoding = form
            said = str(encoding)
        if sample.timestamp is None:
            time_ns, time_from = at_ns, "arrival"
        else:
            time_ns, time_from = time_of(sample.timestamp, at_ns)
        metadata: dict[str, Any] = {"key": key, "encoding": said, "time_from": time_from}
        if (attached := sample.attachment) is not None:
            metadata["attachment"] = attached.to_bytes()
        records.append(Record(sample.payload.to_bytes(), channel=key, seq=seq, time_ns=time_ns, metadata=metadata))
        seq += 1
    if key:
        remember(seqs, key, seq)
    return records


def payload_of(record: Record, form: Form) -> bytes:
    """Return the payload of a record. Raises CodecError for data that cannot be encoded in this form."""
    if form == "record":
        return encode_bytes(record)
    if form == "cbor":
        return encode_cbor(record.data)
    if form == "bytes":
        if isinstance(record.data, bytes | bytearray | memoryview):
            return bytes(record.data)
        raise CodecError(f"data is a {type(record.data).__name__}, not bytes: set encoding to 'record' or 'cbor'")
    try:
        return json.dumps(record.data, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CodecError(f"data cannot be encoded as JSON: {error}") from error


def encoding_of(form: Form) -> zenoh.Encoding:
    """Return zenoh's encoding for payloads of this form."""
    return {
        "record": zenoh.Encoding.ZENOH_BYTES,
        "bytes": zenoh.Encoding.APPLICATION_OCTET_STREAM,
        "json": zenoh.Encoding.APPLICATION_JSON,
        "cbor": zenoh.Encoding.APPLICATION_CBOR,
    }[form]


def _read(read: Callable[[bytes], Any], data: bytes, encoding: str) -> Any:
    try:
        return read(data)
    except (ValueError, RecursionError, CodecError) as error:
        raise CodecError(f"a payload does not match its encoding {encoding!r}: {error}") from error


def _text(data: bytes) -> str:
    return data.decode("utf-8")


_READ: dict[str, Callable[[bytes], Any]] = {
    "application/json": json.loads,
    "text/json": json.loads,
    "application/cbor": decode_cbor,
    "text/plain": _text,
    "zenoh/string": _text,
}
