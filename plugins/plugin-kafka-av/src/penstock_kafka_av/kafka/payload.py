"""Payload: the value, headers, key and partition of a record's message."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import attrs

from penstock.codec import encode_bytes
from penstock.errors import CodecError, StoreError
from penstock.record import Record

PayloadKind = Literal["codec", "json", "data", "parent"]
KINDS: Final = ("codec", "json", "data", "parent")


@attrs.frozen
class Payload:
    """The value, key, partition and headers of a message; `partition` is None if the key selects it."""

    value: bytes | None
    key: Any = None
    partition: int | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def payload_of(record: Record, kind: PayloadKind) -> Payload:
    """Return the payload of a record, before the templates of the store are applied.

    Raises:
        StoreError: the record cannot be written as this kind; not retryable.
    """
    if kind == "codec":
        try:
            return Payload(encode_bytes(record), key=record.channel)
        except CodecError as error:
            raise StoreError(str(error), retryable=False) from error
    if kind == "json":
        return Payload(as_json(record.data), key=record.channel)
    if kind == "data":
        return Payload(_bytes(record), key=record.channel)
    packet = origin(record)
    metadata = packet.metadata
    results = () if packet is record else result_headers(record.data)
    taken = {name for name, _ in results}
    number = metadata.get("partition")
    return Payload(
        None if metadata.get("tombstone") else _bytes(packet),
        key=metadata.get("key"),
        partition=number if isinstance(number, int) else None,
        headers=(*(each for each in _kept_headers(metadata.get("headers")) if each[0] not in taken), *results),
    )


def origin(record: Record) -> Record:
    """Return the oldest ancestor of a record: for a frame or its result, the packet."""
    while record.parent is not None:
        record = record.parent
    return record


def result_headers(data: Any) -> tuple[tuple[str, bytes], ...]:
    """Return results as headers: one per item of a mapping; other data except arrays as one named "result".

    Raises:
        StoreError: a value cannot be written as JSON, or a name is not one for a header.
    """
    if isinstance(data, Mapping):
        return tuple((header_name(name), as_header(each)) for name, each in data.items())
    if hasattr(data, "dtype") and hasattr(data, "ndim") and data.ndim > 0:  # the frame itself, not a result
        return ()
    return () if data is None else (("result", as_header(data)),)


def header_name(name: Any) -> str:
    """Return the name of a header. Raises StoreError unless UTF-8 can represent it, without a zero.

    The client would truncate it at a zero; other names that are not UTF-8 crash the process (confluent-kafka 2.16).
    """
    text = str(name)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "\0"
    if "\0" in text:
        raise StoreError(f"{name!r:.60} cannot be the name of a header: use text without zeros", retryable=False)
    return text


def as_header(value: Any) -> bytes:
    """Return the bytes of a header: text and bytes unchanged, other values as JSON. Raises StoreError."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return value.encode("utf-8", "replace") if isinstance(value, str) else as_json(value)


def as_json(value: Any) -> bytes:
    """Return JSON as UTF-8. Raises StoreError.

    NumPy scalars and arrays become numbers and lists, bytes become text, and numbers that are not finite become "NaN",
    "Infinity" and "-Infinity", since JSON has none.
    """
    try:
        try:
            text = json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False)
        except ValueError:  # a number is not finite, or the value contains itself
            plain = json.loads(json.dumps(value, default=_plain), parse_constant=str)
            text = json.dumps(plain, ensure_ascii=False)
        return text.encode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{type(value).__name__} cannot be written as JSON: {error}", retryable=False) from error


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON equivalent")


def _kept_headers(headers: Any) -> Iterator[tuple[str, bytes | None]]:
    """Yield the headers of a packet as they arrived: without a value, or several of one name."""
    for name, value in headers.items() if isinstance(headers, Mapping) else ():
        for each in value if isinstance(value, list) else [value]:
            yield header_name(name), None if each is None else as_header(each)


def _bytes(record: Record) -> bytes:
    data = record.data
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode("utf-8", "replace")
    try:
        return memoryview(data).tobytes()
    except TypeError:
        raise StoreError(
            f"data is {type(data).__name__}, not bytes: set payload='codec' or 'json', or write packets to this store",
            retryable=False,
        ) from None
