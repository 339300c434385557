"""KafkaSource: messages of topics, one channel a camera, committed when they are durable downstream."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import attrs
from attrs.validators import in_, instance_of, optional
from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, Message
from confluent_kafka.admin import AdminClient

from penstock.errors import ConfigError, EndOfSource, SourceError, TemplateError
from penstock.fields import ExactRecords
from penstock.record import Record
from penstock.templates import Template
from penstock.validators import finite_seconds
from penstock_kafka_av.kafka.channels import Channels, check_channels_from
from penstock_kafka_av.kafka.cluster import Cluster, existing_topics
from penstock_kafka_av.kafka.commits import Commits
from penstock_kafka_av.kafka.consuming import Consuming
from penstock_kafka_av.kafka.errors import config_error, source_error
from penstock_kafka_av.kafka.identity import number_of
from penstock_kafka_av.kafka.jump import Jump
from penstock_kafka_av.kafka.naming import Naming
from penstock_kafka_av.kafka.options import check_options, client_config, servers
from penstock_kafka_av.kafka.partition import Partition
from penstock_kafka_av.kafka.passing_errors import PassingErrors
from penstock_kafka_av.kafka.start import Starts, start_of
from penstock_kafka_av.kafka.topics import Topics

_log = logging.getLogger("penstock.kafka")
_LOOKS_S = 3.0
"""Seconds that a look for topics may take during a run; a source that closes waits for it."""
_CLASSIC = {"partition.assignment.strategy": "cooperative-sticky"}
CLASSIC_ONLY = frozenset({"partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"})
"""Options that only the classic group protocol has, so that setting one chooses it."""


def _names(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, Sequence) or not all(isinstance(each, str) and each for each in given):
        raise ConfigError(f"{value!r}: must be a list of names")
    return tuple(given)


def _channel(_: object, __: object, value: Any) -> None:
    if value is None:
        return
    try:
        Template(value)
    except TemplateError as error:
        raise ConfigError(f"channel={value!r}: {error}") from error


def _max_lag(_: object, __: object, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"max_lag={value!r}: must be a number of messages of at least 1, or None")


@attrs.define(kw_only=True)
class KafkaSource:
    """Read messages of Kafka topics. The channel is the topic, or what `schema` makes of it.

    A record is named by topic, partition and offset: `seq` is the offset in partition 0, and a number above 9 * 10**18
    in others; order is kept in each partition, which is what Kafka promises. `time_ns` is the message's timestamp.
    `metadata` has `topic`, `partition`, `offset`, `timestamp_ms`, and, if the message has them, `key` and `headers`
    (text where they are UTF-8, else bytes). A message without a value (a tombstone) has b"" as data and
    `tombstone: True` in its metadata.

    In a group, members share the partitions, evenly also where each topic has one: by the group protocol of Kafka 4
    (KIP-848) if the brokers have it, else by the classic one with cooperative-sticky. The option `group.protocol`, or
    one that only the classic protocol has (`session.timeout.ms`), decides otherwise. What was committed goes before
    `start`, unless the group is empty when this member opens. Offsets are committed at checkpoints only. While
    downstream is slow, the partitions are paused and the consumer polls on: it keeps its place in the group, whatever a
    record takes. When a partition moves, records that were not committed are given again by the new member, under the
    same names.

    Topics and partitions that appear later are read from their first message. A message that the broker deleted before
    it was read counts as lost. A broker that is down is waited for; the client connects again by itself.

    Attributes:
        bootstrap_servers: "host:port" of brokers: a list, or text with commas.
        topics: Names of topics. Set one of topics, pattern and schema.
        pattern: A regular expression for whole names of topics.
        schema: Names of topics with a gap for the channel: "raw_{{ channel }}", or comux's "raw_:cam_id".
        channels: The channels of the schema; None: those of all topics that match.
        channels_from: Where the channels of the schema are read from, again every `refresh_s`: {"file": path} (a line
            or a JSON item each), {"topic": name} (its keys; a tombstone removes one), or {"mongo": {"uri", "database",
            "collection", "field"}}.
        channel: A template of the channel, where several cameras share a topic: "{{ key }}", "{{ headers.camera }}"; it
            takes the place of the topic or the schema. A message that lacks the key or header is dead-lettered.
        group: The consumer group; None reads all partitions alone and commits nothing.
        start: "committed" (what was not, begins at the beginning), "beginning", "end", or a time: seconds since 1970 or
            ISO 8601 with a zone.
        until_end: End after what was there when the partitions were begun.
        max_lag: Messages that a partition may lie behind; further behind, it jumps, what is passed over is counted as
            dropped, and the next record has `discontinuity`. None never jumps.
        on_lag: Where to: to the "end", or to the last "keyframe" before it (H.264, HEVC, MPEG-4).
        codec: What tells keyframes for `on_lag="keyframe"`.
        refresh_s: Seconds between looks for topics that appear or go.
        timeout_s: Seconds to wait for the broker at `open`.
        options: Options of the client (librdkafka's names), passed through; `{env = "NAME"}` for secrets. Never
            printed.
    """

    gives: ClassVar[str] = "bytes"
    stays_valid: ClassVar[bool] = True

    bootstrap_servers: str | Sequence[str] = attrs.field(converter=servers)
    topics: str | Sequence[str] | None = attrs.field(default=None, converter=_names)
    pattern: str | None = attrs.field(default=None, validator=optional(instance_of(str)))
    schema: str | None = attrs.field(default=None, validator=optional(instance_of(str)))
    channels: str | Sequence[str] | None = attrs.field(default=None, converter=_names)
    channels_from: Mapping[str, Any] | str | None = attrs.field(default=None, validator=check_channels_from, repr=False)
    channel: str | None = attrs.field(default=None, validator=_channel)
    group: str | None = attrs.field(default=None, validator=optional(instance_of(str)))
    start: Any = attrs.field(default="committed")
    until_end: bool = attrs.field(default=False, validator=instance_of(bool))
    max_lag: int | None = attrs.field(default=None, validator=_max_lag)
    on_lag: Literal["end", "keyframe"] = attrs.field(default="end", validator=in_(("end", "keyframe")))
    codec: str = attrs.field(default="h264", validator=in_(("h264", "hevc", "mpeg4")))
    refresh_s: float = attrs.field(default=5.0, validator=finite_seconds)
    timeout_s: float = attrs.field(default=10.0, validator=finite_seconds)
    options: Mapping[str, Any] = attrs.field(factory=dict, validator=check_options, repr=False)
    _open: Consuming | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _jump: Jump | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _naming: Naming | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _refused: list[tuple[Record, BaseException]] = attrs.field(factory=list, init=False, repr=False, eq=False)
    _channels: Channels | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        start_of(self.start)
        if self.channels_from is None or self.schema is None:
            Topics.of(topics=self.topics, pattern=self.pattern, schema=self.schema, channels=self.channels)
        if (self.channels is not None or self.channels_from is not None) and self.schema is None:
            raise ConfigError("channels: belong to a schema, as in schema='raw_{{ channel }}'; set topics instead")

    def open(self) -> None:
        """Connect. Raises SourceError naming the brokers if none answers or lets us in; ConfigError for bad options."""
        if self._open is not None:
            raise SourceError(f"{self._where()} is open already: close it first", retryable=False)
        errors, commits = PassingErrors(self._where()), Commits(self._where())

        def made(protocol: str | None) -> Consumer:
            try:
                config = {**self._config(protocol), "error_cb": errors.say, "on_commit": commits.answered}
                return Consumer(config, logger=_log)
            except (KafkaException, TypeError, ValueError) as error:
                raise config_error(self._where(), error) from error

        cluster = Cluster(self._admin_config(), timeout_s=self.timeout_s)
        is_free = (
            self.group is not None and not CLASSIC_ONLY & set(self.options) and "group.protocol" not in self.options
        )
        consumer = made("consumer" if is_free else None)
        try:
            existing = self._reach(consumer, errors.heard)
            if is_free and not cluster.may_have_new_groups():
                is_free = False
                consumer.close()
                consumer = made(None)
            self._channels = self._channel_list()
            literal = self.group is None or self._is_group_empty()
            consuming = Consuming(
                consumer,
                where=self._where(),
                topics=self._meant,
                cluster=cluster,
                starts=Starts(
                    start=start_of(self.start),
                    group=self.group is not None,
                    literal=literal,
                    timeout_s=self.timeout_s,
                ),
                commits=commits,
                say=errors.say,
                group=self.group is not None,
                is_cooperative="cooperative" in str(self.options.get("partition.assignment.strategy", "cooperative")),
                classic=(lambda: made(None)) if is_free else None,
                until_end=self.until_end,
                refresh_s=self.refresh_s,
                timeout_s=self.timeout_s,
            )
            errors.opened()
            consuming.start(existing)
            cluster.timeout_s = min(self.timeout_s, _LOOKS_S)
        except BaseException:
            consumer.close()
            cluster.close()
            raise
        self._open = consuming
        self._refused.clear()
        only = len(self.topics or ()) == 1
        self._naming = None if self.channel is None else Naming(self.channel, one_topic=only)
        self._jump = None if self.max_lag is None else Jump(consuming, self.max_lag, self.on_lag, self.codec)

    def _config(self, protocol: str | None) -> dict[str, Any]:
        own: dict[str, Any] = {
            "group.id": self.group or f"penstock-{uuid.uuid4()}",
            "auto.offset.reset": "error",
            "enable.partition.eof": self.until_end,
            "topic.metadata.refresh.interval.ms": max(100, min(300_000, round(self.refresh_s * 1000))),
            "allow.auto.create.topics": False,
            "log.connection.close": False,
        }
        config = {**own, **client_config(self.bootstrap_servers, self.options)}
        if protocol is not None:
            config["group.protocol"] = protocol
        if config.get("group.protocol", "classic") == "classic":
            config = {**_CLASSIC, **config}
        return {
            **config,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": self.until_end,
        }

    def _reach(self, consumer: Consumer, heard: Sequence[Any]) -> dict[str, int]:
        try:
            return existing_topics(consumer, self.timeout_s)
        except KafkaException as error:
            consumer.poll(0)  # it calls error_cb, which knows more
            known = next((each for each in heard if "_ALL_BROKERS_DOWN" not in each.name()), error)
            raise source_error(self._where(), known, doing="connect") from error

    def _admin_config(self) -> dict[str, Any]:
        return {**client_config(self.bootstrap_servers, self.options), "log_level": 2}

    def _is_group_empty(self) -> bool:
        """Return whether nobody is in the group yet, so that `start` is the user's word for where it begins."""
        if self.start == "committed":
            return False
        assert self.group is not None
        client = AdminClient(self._admin_config(), logger=_log)
        try:
            asked = client.describe_consumer_groups([self.group], request_timeout=self.timeout_s)
            state = asked[self.group].result(self.timeout_s).state
        except KafkaException:
            return False  # it may not be asked, or there is none: what was committed goes first
        return state in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)

    def _channel_list(self) -> Channels | None:
        if self.channels_from is None:
            return None
        return Channels(self.channels_from, bootstrap_servers=self.bootstrap_servers, options=self.options)

    def _meant(self) -> Topics:
        channels = self.channels if self._channels is None else self._channels.current(every_s=self.refresh_s)
        return Topics.of(topics=self.topics, pattern=self.pattern, schema=self.schema, channels=channels)

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return messages in order for each partition; () if none came. Raises SourceError, EndOfSource."""
        consuming = self._opened()
        taken = consuming.take(max_records, timeout_s)
        if self._jump is not None:
            taken = self._jump.over(taken)
        if not taken and self.until_end and consuming.is_at_end():
            raise EndOfSource(f"{self._where()}: the end was reached")
        records = ExactRecords(_record(partition, message) for partition, message in taken)
        return records if self._naming is None else self._named(records, self._naming)

    def _named(self, records: Sequence[Record], naming: Naming) -> Sequence[Record]:
        given = []
        for record in records:
            try:
                given.append(naming.named(record))
            except TemplateError as error:
                self._refused.append((record, error))
        return given

    def take_refused(self) -> Sequence[tuple[Record, BaseException]]:
        """Return the messages since the last call that lack what `channel` needs, with the reasons."""
        refused, self._refused = self._refused, []
        return refused

    def position(self) -> dict[str, int]:
        """Return the next offset of each partition, by "topic/partition"."""
        return {name: each.next for name, each in list(self._opened().partitions.items())}

    def commit(self, position: Mapping[str, int]) -> None:
        """Commit to the group what is still this member's; without a group, nothing. Raises SourceError."""
        self._opened().commit(position)

    def seek(self, position: Mapping[str, int]) -> None:
        """Go on at these offsets, in each partition once it is assigned."""
        self._opened().seek(position)

    def lag(self) -> int:
        """Return how many messages wait at the broker in the partitions of this consumer."""
        consuming = self._open
        if consuming is None:
            return 0
        return sum(max(0, each.high - each.next) for each in list(consuming.partitions.values()))

    def lag_s(self) -> float:
        """Return the seconds since the last message given was made, of the partition furthest behind; 0 if none is."""
        consuming = self._open
        behind = [each for each in list(consuming.partitions.values()) if each.high > each.next] if consuming else []
        return max((time.time() - each.last_ms / 1000 for each in behind if each.last_ms), default=0.0)

    def lost_upstream(self) -> Mapping[str, int]:
        """Return how many messages were deleted by the broker before they were read."""
        return dict(self._open.lost) if self._open is not None else {}

    def dropped_upstream(self) -> Mapping[str, int]:
        """Return how many messages were passed over because of `max_lag`."""
        return dict(self._jump.dropped) if self._jump is not None else {}

    def remark(self) -> str:
        """Return what was passed over because of `max_lag`."""
        return self._jump.remark() if self._jump is not None else ""

    def close(self) -> None:
        """Leave the group."""
        consuming, self._open = self._open, None
        if consuming is not None:
            consuming.close()

    def _opened(self) -> Consuming:
        if self._open is None:
            raise SourceError(f"{self._where()} is not open: call open() first", retryable=False)
        return self._open

    def _where(self) -> str:
        what = self.schema or self.pattern or ", ".join(self.topics or ())
        return f"kafka source {what!r} at {','.join(self.bootstrap_servers)}"


def _record(partition: Partition, message: Message) -> Record:
    value = message.value()
    offset = cast("int", message.offset())
    kind, stamp_ms = message.timestamp()
    metadata: dict[str, Any] = {
        "topic": partition.topic,
        "partition": partition.number,
        "offset": offset,
        "timestamp_ms": stamp_ms if kind else None,
        "time_from": "sender" if kind == 1 else "broker" if kind else "arrival",
    }
    key, headers = message.key(), message.headers()
    if key is not None:
        metadata["key"] = _text(key)
    if headers:
        metadata["headers"] = {name: _text(each) for name, each in cast("list[tuple[str, Any]]", headers)}
    if value is None:
        metadata["tombstone"] = True
        value = b""
    if kind and stamp_ms > 0:
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


def _text(value: Any) -> Any:
    """Return bytes as text where they are UTF-8."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value
