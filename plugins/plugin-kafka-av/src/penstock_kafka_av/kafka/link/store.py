"""KafkaLinkStore: the near end of a link whose records wait in a topic."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
from attrs.validators import ge, instance_of
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from penstock.errors import CannotConnectToStoreError, ConfigError, StoreError
from penstock.record import Record
from penstock.validators import finite_seconds
from penstock_kafka_av.kafka.errors import error_of, text_of
from penstock_kafka_av.kafka.link.mark import HEADER, Mark
from penstock_kafka_av.kafka.message import Messages
from penstock_kafka_av.kafka.options import check_options, client_config, servers
from penstock_kafka_av.kafka.producing import Producing
from penstock_kafka_av.kafka.topics import check_topic


def _producer(_: object, __: object, value: Any) -> None:
    if not isinstance(value, str) or not 0 < len(value.encode()) <= 200:
        raise ConfigError(f"producer={value!r}: must be a name of at most 200 bytes")


def _topic_options(_: object, __: object, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError('topic_options: must be a mapping, as {"retention.ms" = -1}')


@attrs.define(kw_only=True)
class KafkaLinkStore:
    """Hand records to another pipeline by a topic, where they wait until it has stored them.

    `write` returns when the brokers have each record. All records of a channel are in one partition, in order, whatever
    they hold: they cross as penstock's codec writes them. The topic is made if there is none.

    A run that is killed and started again writes again what its sources had not committed. The source `kafka-link`
    removes these duplicates by channel, number and time; where times are not the sender's, set `replays`.

    A run that ends in order tells the source so, in each partition. One that is killed or aborted does not: its next
    opening goes on.

    Attributes:
        bootstrap_servers: "host:port" of brokers: a list, or text with commas.
        topic: The name of the link.
        producer: The name of this store, kept when the program is started again; stores that write to one link at the
            same time have different ones.
        replays: What stands before gives the same numbers again after a restart (it commits, as files do), though with
            other times. Leave it out for cameras and all else that counts anew: their records would be taken for old.
        partitions: Of a topic that is made here: how many sources can share it.
        max_record_bytes: Largest record that the client, and a topic made here, lets through.
        topic_options: Further options of a topic made here, as {"retention.ms" = -1}.
        timeout_s: Seconds to wait for the broker at `open`.
        options: Options of the client (librdkafka's names), passed through; `{env = "NAME"}` for secrets. Never
            printed.
    """

    takes: ClassVar[str] = "any"

    bootstrap_servers: str | Sequence[str] = attrs.field(converter=servers)
    topic: str = attrs.field(validator=check_topic)
    producer: str = attrs.field(default="link", validator=_producer)
    replays: bool = attrs.field(default=False, validator=instance_of(bool))
    partitions: int = attrs.field(default=8, validator=[instance_of(int), ge(1)])
    max_record_bytes: int = attrs.field(default=32 << 20, validator=[instance_of(int), ge(1000)])
    topic_options: Mapping[str, Any] = attrs.field(factory=dict, validator=_topic_options)
    timeout_s: float = attrs.field(default=10.0, validator=finite_seconds)
    options: Mapping[str, Any] = attrs.field(factory=dict, validator=check_options, repr=False)
    _open: _Producing | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _unsynced: bool = attrs.field(default=False, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Connect, and make the topic if there is none. Raises CannotConnectToStoreError; ConfigError."""
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
            self._make_topic()
        except KafkaException as error:
            raise CannotConnectToStoreError(f"{self._where()}: cannot make the topic: {text_of(error)}") from error
        self._open, self._unsynced = producing, False

    def _make_topic(self) -> None:
        client = AdminClient({**client_config(self.bootstrap_servers, self.options), "log_level": 2})
        if self.topic in client.list_topics(timeout=self.timeout_s).topics:
            return
        settings = {
            "max.message.bytes": str(self.max_record_bytes + 1_000_000),
            **{name: str(value) for name, value in self.topic_options.items()},
        }
        asked = client.create_topics([NewTopic(self.topic, self.partitions, config=settings)])
        try:
            asked[self.topic].result(self.timeout_s)
        except KafkaException as error:
            inner = error_of(error)
            if inner is None or inner.name() != "TOPIC_ALREADY_EXISTS":  # another process was faster
                raise

    def write(self, records: Sequence[Record]) -> None:
        """Produce, and wait until the brokers have them. Raises StoreError naming those that they do not have."""
        producing = self._opened()
        self._unsynced = True
        try:
            producing.write(records)
        except StoreError as error:
            if error.retryable:  # the brokers may have them all the same: what comes again is then a duplicate
                producing.begin_anew()
            raise

    def sync(self) -> None:
        """Return at once: `write` returned when the brokers that are in sync had everything."""
        self._opened()
        self._unsynced = False

    def close(self) -> None:
        """Tell the sources of the end, if everything was synced before (a run that is aborted does not), and leave."""
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
    """The messages of one opening: each says who produced it."""

    def __init__(self, topic: str, producer: str, *, replays: bool) -> None:
        super().__init__(topic=topic, key=None, partition=None, payload="codec", headers={})
        self.topic = topic
        self._producer = producer
        self._replays = replays
        self.begin_anew()

    def begin_anew(self) -> None:
        """Draw a new number of the opening."""
        self._opening = int.from_bytes(os.urandom(8), "big")
        self._count = 0

    def of(self, record: Record) -> dict[str, Any]:
        """Return the arguments of `Producer.produce`."""
        message = super().of(record)
        message.pop("timestamp", None)  # the brokers delete by it; the record keeps its own time
        message["headers"] = [(HEADER, self.mark())]
        return message

    def mark(self, *, is_end: bool = False) -> bytes:
        """Return the header of the next message."""
        number, self._count = self._count, self._count + 1
        return Mark(self._producer, self._opening, number, self._replays, is_end).to_bytes()


class _Producing(Producing):
    """A producer that can tell of its end."""

    _messages: _LinkMessages
    _producer: Producer

    def begin_anew(self) -> None:
        """Count what comes as that of another opening."""
        self._messages.begin_anew()

    def end(self) -> None:
        """Produce the end into each partition. Raises StoreError."""
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
            raise StoreError(f"{self._where}: the end of the run was not told: {text_of(failed[0])}", retryable=False)
