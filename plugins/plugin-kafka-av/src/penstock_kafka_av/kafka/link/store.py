"""KafkaLinkStore: the sending end of a link whose records wait in a topic."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
from confluent_kafka import KafkaException, Producer

from penstock.arguments import checks_arguments
from penstock.errors import CannotConnectToStoreError, ConfigError, StoreError
from penstock.record import Record
from penstock.short_text import short
from penstock.validators import at_least
from penstock_kafka_av.kafka.errors import text_of
from penstock_kafka_av.kafka.link.mark import HEADER, Mark
from penstock_kafka_av.kafka.message import Messages
from penstock_kafka_av.kafka.new_topic import make_topic
from penstock_kafka_av.kafka.options import check_options, check_timeout, client_config, servers
from penstock_kafka_av.kafka.producing import Producing
from penstock_kafka_av.kafka.topics import check_topic


def _producer(_: object, __: object, value: Any) -> None:
    if not isinstance(value, str) or not 0 < len(value.encode()) <= 200:
        raise ConfigError(f"producer={short(value)}: must be a name of at most 200 bytes")


def _topic_options(_: object, __: object, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError('topic_options: must be a mapping, as {"retention.ms" = -1}')


@checks_arguments
@attrs.define(kw_only=True)
class KafkaLinkStore:
    """Pass records to another pipeline through a topic, where they wait until that pipeline has stored them.

    `write` returns when the brokers have each record. All records of a channel go to one partition, in order; records
    with any data are accepted and encoded with penstock's codec. The topic is created if it does not exist.

    After a run is killed, its restart writes the records again that its sources had not committed. The source
    `kafka-link` removes these duplicates by channel, number and time; if times are not the sender's, set `replays`.

    A run that ends in order writes an end mark into each partition. A killed or aborted run does not: the source then
    waits for the next opening.

    Attributes:
        bootstrap_servers: "host:port" of brokers: a list, or text with commas.
        topic: The name of the link.
        producer: The name of this store, the same after a restart; stores that write to one link at the same time
            need different names.
        replays: Whether the source upstream repeats records after a restart with the same numbers (files do) but other
            times. Leave it out for cameras and other sources that restart their count: new records would be removed as
            duplicates.
        partitions: Partitions of a topic created here: the number of sources that can share it.
        max_record_bytes: Size limit of a record in bytes, for the client and for a topic created here.
        topic_options: Further options of a topic created here, as {"retention.ms" = -1}.
        timeout_s: Seconds to wait for the broker at `open`, up to an hour.
        options: Options of the client (librdkafka's names), passed through; `{env = "NAME"}` for secrets. Never
            printed.
    """

    takes: ClassVar[str] = "any"

    bootstrap_servers: str | Sequence[str] = attrs.field(converter=servers)
    topic: str = attrs.field(validator=check_topic)
    producer: str = attrs.field(default="link", validator=_producer)
    replays: bool = attrs.field(default=False)
    partitions: int = attrs.field(default=8, validator=at_least(1))
    max_record_bytes: int = attrs.field(default=32 << 20, validator=at_least(1000))
    topic_options: Mapping[str, Any] = attrs.field(factory=dict, validator=_topic_options)
    timeout_s: float = attrs.field(default=10.0, validator=check_timeout)
    options: Mapping[str, Any] = attrs.field(factory=dict, validator=check_options, repr=False)
    _open: _Producing | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _unsynced: bool = attrs.field(default=False, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Connect, and create the topic if it does not exist. Raises CannotConnectToStoreError; ConfigError."""
        if self._open is not None:
            raise StoreError(f"{self._where()} is open already: close it first", retryable=False)
        config = {
            "message.max.bytes": self.max_record_bytes + 1_000_000,
            **client_config(self.bootstrap_servers, self.options),
        }
        messages = _LinkMessages(self.topic, self.producer, replays=self.replays)
        producing = _Producing(self._where(), config, messages)
        producing.open(self.timeout_s)
        try:
            make_topic(
                client_config(self.bootstrap_servers, self.options),
                self.topic,
                partitions=self.partitions,
                options={"max.message.bytes": self.max_record_bytes + 1_000_000, **self.topic_options},
                timeout_s=self.timeout_s,
            )
        except KafkaException as error:
            raise CannotConnectToStoreError(f"{self._where()}: cannot make the topic: {text_of(error)}") from error
        self._open, self._unsynced = producing, False

    def write(self, records: Sequence[Record]) -> None:
        """Produce, and wait until all records are acknowledged. Raises StoreError that lists the failed records."""
        producing = self._opened()
        self._unsynced = True
        try:
            producing.write(records)
        except StoreError as error:
            if error.retryable:  # the brokers may have them nevertheless: a retry then makes duplicates
                producing.begin_anew()
            raise

    def sync(self) -> None:
        """Return at once: `write` returned when all in-sync replicas had everything."""
        self._opened()
        self._unsynced = False

    def close(self) -> None:
        """Write the end marks if everything was synced (an aborted run has not), and disconnect. Raises StoreError."""
        producing, self._open = self._open, None
        if producing is None:
            return
        try:
            if not self._unsynced:
                producing.end()
        finally:
            producing.close()

    def _opened(self) -> _Producing:
        if self._open is None:
            raise StoreError(f"{self._where()} is not open: call open() first", retryable=False)
        return self._open

    def _where(self) -> str:
        return f"kafka-link store {self.topic!r} at {','.join(self.bootstrap_servers)}"


class _LinkMessages(Messages):
    """The messages of one opening, each with a header that identifies its producer."""

    def __init__(self, topic: str, producer: str, *, replays: bool) -> None:
        super().__init__(topic=topic, key=None, partition=None, payload="codec", headers={})
        self.topic = topic
        self._producer = producer
        self._replays = replays
        self.begin_anew()

    def begin_anew(self) -> None:
        """Start a new opening, with a new random number."""
        self._opening = int.from_bytes(os.urandom(8), "big")
        self._count = 0

    def of(self, record: Record) -> dict[str, Any]:
        """Return the arguments of `Producer.produce`."""
        message = super().of(record)
        message.pop("timestamp", None)  # retention would use it; the record keeps its own time
        message["headers"] = [(HEADER, self.mark())]
        return message

    def mark(self, *, is_end: bool = False) -> bytes:
        """Return the header of the next message."""
        number, self._count = self._count, self._count + 1
        return Mark(self._producer, self._opening, number, self._replays, is_end).to_bytes()


class _Producing(Producing):
    """A producer that can write end marks."""

    _messages: _LinkMessages
    _producer: Producer

    def begin_anew(self) -> None:
        """Start a new opening."""
        self._messages.begin_anew()

    def end(self) -> None:
        """Write an end mark into each partition. Raises StoreError."""
        topic = self._messages.topic
        mark = self._messages.mark(is_end=True)
        failed: list[Any] = []
        try:
            found = self._producer.list_topics(topic, timeout=10).topics[topic].partitions
            for number in found:
                self._producer.produce(
                    topic, b"", partition=number, headers=[(HEADER, mark)],
                    on_delivery=lambda error, _: failed.append(error) if error is not None else None,
                )  # fmt: skip
            self._wait()
        except (KafkaException, BufferError) as error:
            failed.append(error)
        if failed:
            raise StoreError(
                f"{self._where}: the end of the run could not be written: {text_of(failed[0])}", retryable=False
            )
