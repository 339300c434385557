"""Messages: the Kafka message of a record: topic, key, partition, headers and payload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.errors import StoreError
from penstock.record import Record
from penstock.templates import Template
from penstock_kafka_av.kafka.payload import PayloadKind, as_header, payload_of

_REMEMBERED = 10_000


class Messages:
    """Build messages from records with the templates of a store."""

    def __init__(
        self,
        *,
        topic: str,
        key: str | None,
        partition: int | str | None,
        payload: PayloadKind,
        headers: Mapping[str, str],
    ) -> None:
        self._topic = Template(topic)
        self._by_channel = self._topic.variables <= {"channel"}
        self._topics: dict[str, str] = {}
        self._key = None if key is None else Template(key)
        self._partition = Template(partition) if isinstance(partition, str) else partition
        self._payload: PayloadKind = payload
        self._headers = {name: Template(text) for name, text in headers.items()}

    def of(self, record: Record) -> dict[str, Any]:
        """Return the arguments of `Producer.produce`. Raises StoreError (not retryable) and TemplateError."""
        made = payload_of(record, self._payload)
        message: dict[str, Any] = {"topic": self._topic_of(record), "value": made.value}
        key = made.key if self._key is None else self._key.render(record)
        if key is not None:
            message["key"] = as_header(key)
        partition = made.partition if self._partition is None else self._number(record)
        if partition is not None:
            message["partition"] = partition
        headers = made.headers
        if self._headers:
            headers = (*headers, *((name, as_header(text.render(record))) for name, text in self._headers.items()))
        if headers:
            message["headers"] = list(headers)
        if record.time_ns > 0:
            message["timestamp"] = record.time_ns // 1_000_000
        return message

    def _topic_of(self, record: Record) -> str:
        if not self._by_channel:
            return self._topic.render(record)
        topic = self._topics.get(record.channel)
        if topic is None:
            if len(self._topics) >= _REMEMBERED:
                self._topics.clear()
            topic = self._topics[record.channel] = self._topic.render(record)
        return topic

    def _number(self, record: Record) -> int:
        if isinstance(self._partition, int):
            return self._partition
        assert self._partition is not None
        text = self._partition.render(record)
        try:
            return int(text)
        except ValueError:
            raise StoreError(f"partition {text!r} is not a number", retryable=False) from None
