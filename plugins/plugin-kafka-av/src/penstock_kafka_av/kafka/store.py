"""KafkaStore: produces records to topics, each confirmed by the broker before `write` returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import ConfigError, StoreError, TemplateError
from penstock.record import Record
from penstock.short_text import short
from penstock.templates import Template
from penstock.validators import one_of
from penstock_kafka_av.kafka.message import Messages
from penstock_kafka_av.kafka.options import check_name, check_options, check_timeout, client_config, servers
from penstock_kafka_av.kafka.payload import KINDS, PayloadKind, header_name
from penstock_kafka_av.kafka.producing import Producing
from penstock_kafka_av.kafka.topics import channel_template, check_topic
from penstock_kafka_av.kafka.transaction import Transactions


def _template(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if isinstance(value, int) and not isinstance(value, bool) and field.name == "partition":
        if not 0 <= value < 2**31:
            raise ConfigError(f"partition={value!r}: must be a number from 0; leave it out to let the key select it")
        return
    if field.name == "topic" and "{" not in (name := channel_template(value)):
        check_topic(_, field, name)
    try:
        Template(channel_template(value) if isinstance(value, str) else value)
    except TemplateError as error:
        raise ConfigError(f"{field.name}={short(value)}: {error}") from error


def _header_templates(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and name for name in value):
        raise ConfigError("headers: must be a mapping of names to templates")
    for name, each in value.items():
        try:
            header_name(name)
        except StoreError as error:
            raise ConfigError(f"headers: {error}") from error
        _template(_, field, each)


@checks_arguments
@attrs.define(kw_only=True)
class KafkaStore:
    """Produce records to topics. `write` returns when all in-sync replicas have each message, in order, once.

    The producer is idempotent (`acks=all`): a message that the client resends is stored once, and in order. If a run is
    killed, its next start writes uncommitted records again, so they are stored twice, unless `transactional` is set:
    then records and source positions become visible together at a checkpoint, or not at all, and a consumer with
    `isolation.level=read_committed` (the default) sees each exactly once. The positions are kept in the topic
    "penstock-positions". One process at a time can use a transactional name; the broker fences off an older one.

    Attributes:
        bootstrap_servers: "host:port" of brokers: a list, or text with commas.
        topic: A template: "stream_{{ channel }}", or comux's "stream_:cam_id". The topic must exist, unless the broker
            creates topics automatically.
        key: A template; by default the channel, and with `payload="parent"` the key of the packet.
        partition: A number, or a template that renders to one; by default the key selects the partition, and with
            `payload="parent"` it is the partition of the packet.
        payload: "codec" (the whole record, for the decoder `record`), "json" (its data as JSON), "data" (its data,
            which must be bytes), or "parent": the unchanged packet from which the record was made, with its headers and
            the record's data as additional headers: one per item of a mapping, text and bytes unchanged, other values
            as JSON; data that is neither a mapping nor an array becomes the header "result".
        headers: Additional headers: a mapping of names to templates.
        transactional: The name of the transactions ("transactional.id"), or None.
        timeout_s: Seconds to wait for the broker at `open`, up to an hour.
        options: Options of the client (librdkafka's names), passed through; `{env = "NAME"}` for secrets. Never
            printed. "message.timeout.ms" (300 s) limits the wait for a broker that is down.
    """

    takes: ClassVar[str] = "any"

    bootstrap_servers: str | Sequence[str] = attrs.field(converter=servers)
    topic: str = attrs.field(default="stream_{{ channel }}", validator=_template)
    key: str | None = attrs.field(default=None, validator=_template)
    partition: int | str | None = attrs.field(default=None, validator=_template)
    payload: PayloadKind = attrs.field(default="codec", validator=one_of(*KINDS))
    headers: Mapping[str, str] = attrs.field(factory=dict, validator=_header_templates)
    transactional: str | None = attrs.field(default=None, validator=check_name)
    timeout_s: float = attrs.field(default=10.0, validator=check_timeout)
    options: Mapping[str, Any] = attrs.field(factory=dict, validator=check_options, repr=False)
    _open: Producing | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def __new__(cls, *_: Any, transactional: str | None = None, **__: Any) -> KafkaStore:
        """Create a store that can keep positions only if it is transactional."""
        return object.__new__(TransactionalKafkaStore if transactional is not None else cls)

    def open(self) -> None:
        """Connect. Raises CannotConnectToStoreError naming the brokers; ConfigError for bad options."""
        if self._open is not None:
            raise StoreError(f"{self._where()} is open already: close it first", retryable=False)
        producing = self._made()
        producing.open(self.timeout_s)
        self._open = producing

    def _made(self) -> Producing:
        return Producing(self._where(), client_config(self.bootstrap_servers, self.options), self._messages())

    def _messages(self) -> Messages:
        return Messages(
            topic=channel_template(self.topic), key=self.key, partition=self.partition, payload=self.payload,
            headers=self.headers,
        )  # fmt: skip

    def write(self, records: Sequence[Record]) -> None:
        """Produce, and wait until all records are acknowledged. Raises StoreError that lists the failed records."""
        self._opened().write(records)

    def sync(self) -> None:
        """Return when everything written is durable, and with `transactional` also visible. Raises StoreError."""
        self._opened().sync()

    def close(self) -> None:
        """Wait for messages in flight and disconnect; an open transaction is committed."""
        producing, self._open = self._open, None
        if producing is not None:
            producing.close()

    def _opened(self) -> Producing:
        if self._open is None:
            raise StoreError(f"{self._where()} is not open: call open() first", retryable=False)
        return self._open

    def _where(self) -> str:
        return f"kafka store {self.topic!r} at {','.join(self.bootstrap_servers)}"


class TransactionalKafkaStore(KafkaStore):
    """Produce records and source positions in transactions. `KafkaStore(transactional=…)` creates it."""

    __slots__ = ()

    def _made(self) -> Producing:
        assert self.transactional is not None
        config = client_config(self.bootstrap_servers, self.options)
        return Transactions(self._where(), config, self._messages(), name=self.transactional)

    def sync_with(self, positions: Mapping[str, Any]) -> None:
        """Commit everything written and these positions in one transaction. Raises StoreError."""
        self._transactions().sync_with(positions)

    def positions(self) -> Mapping[str, Any]:
        """Return the positions of the last `sync_with` of this transactional name, or an empty mapping."""
        return self._transactions().positions()

    def _transactions(self) -> Transactions:
        producing = self._opened()
        assert isinstance(producing, Transactions)
        return producing
