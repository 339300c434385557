"""Records: the record of each message."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

from confluent_kafka import Message

from penstock.record import Record
from penstock_kafka_av.kafka.headers import headers_of
from penstock_kafka_av.kafka.identity import number_of
from penstock_kafka_av.kafka.partition import Partition


def record_of(partition: Partition, message: Message) -> Record:
    """Return the record of a message, and note in its partition when the message was sent."""
    value = message.value()
    offset = cast("int", message.offset())
    kind, stamp_ms = message.timestamp()
    is_stamped = bool(kind) and stamp_ms > 0
    metadata: dict[str, Any] = {
        "topic": partition.topic,
        "partition": partition.number,
        "offset": offset,
        "timestamp_ms": stamp_ms if kind else None,
        "time_from": "arrival" if not is_stamped else "sender" if kind == 1 else "broker",
    }
    key, (headers, unreadable) = message.key(), headers_of(message)
    if key is not None:
        metadata["key"] = _text(key)
    if headers:
        metadata["headers"] = _by_name(headers)
    if unreadable:
        metadata["unreadable_headers"] = unreadable
    if value is None:
        metadata["tombstone"] = True
        value = b""
    if is_stamped:
        partition.last_ms = stamp_ms
        time_ns = stamp_ms * 1_000_000
    else:
        time_ns = time.time_ns()
    broken, partition.is_broken = partition.is_broken, False
    return Record(
        value,
        channel=partition.channel,
        seq=offset if partition.number == 0 else number_of(partition.number, offset),
        time_ns=time_ns,
        metadata=metadata,
        discontinuity=broken,
    )


def _by_name(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, Any]:
    """Return headers as text or bytes by name; a list of them where a name repeats."""
    found = {name: _text(value) for name, value in headers}
    if len(found) < len(headers):
        values: dict[str, list[Any]] = {}
        for name, value in headers:
            values.setdefault(name, []).append(_text(value))
        found.update((name, each) for name, each in values.items() if len(each) > 1)
    return found


def _text(value: Any) -> Any:
    """Return bytes as text if they are UTF-8, else unchanged."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value
