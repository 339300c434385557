"""KafkaSource: reads messages of topics, one channel per camera, and commits them once they are durable downstream."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import attrs
from confluent_kafka import Consumer, KafkaException

from penstock.arguments import checks_arguments
from penstock.component import Remark
from penstock.errors import ConfigError, EndOfSource, SourceError, TemplateError
from penstock.fields import ExactRecords
from penstock.record import Record
from penstock.short_text import short
from penstock.templates import Template
from penstock.validators import finite_seconds, one_of
from penstock_kafka_av.kafka.channels import Channels, check_channels_from
from penstock_kafka_av.kafka.client_log import ClientLog
from penstock_kafka_av.kafka.cluster import Cluster, existing_topics
from penstock_kafka_av.kafka.commits import Commits
from penstock_kafka_av.kafka.consuming import Consuming
from penstock_kafka_av.kafka.errors import config_error, source_error
from penstock_kafka_av.kafka.jump import Jump
from penstock_kafka_av.kafka.naming import Naming
from penstock_kafka_av.kafka.options import check_name, check_options, check_timeout, client_config, servers
from penstock_kafka_av.kafka.record import record_of
from penstock_kafka_av.kafka.start import Starts, start_of
from penstock_kafka_av.kafka.topics import Schema, Topics
from penstock_kafka_av.kafka.transient_errors import TransientErrors

_log = logging.getLogger("penstock.kafka")
_LOOKS_S = 3.0
"""Seconds that listing the topics may take during a run; closing the source waits for it."""
_EVEN = {"queued.max.messages.kbytes": 16_384, "max.partition.fetch.bytes": 262_144, "fetch.queue.backoff.ms": 20}
"""Limits of prefetching if partitions are held back: pausing a partition discards its prefetched messages.

A full queue postpones fetching: by 1 s if nothing is set, longer than others wait for a partition without messages."""
_CLASSIC = {"partition.assignment.strategy": "cooperative-sticky"}
CLASSIC_ONLY = frozenset({"partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"})
"""Options that only the classic group protocol has; setting one of them selects that protocol."""


def _names(value: Any) -> Any:
    """Return names as a tuple; a single str is one name. Wrong ones are left to `_are_names`."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, Sequence) else value


def _are_names(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, tuple) or not all(isinstance(each, str) and each for each in value):
        raise ConfigError(f"{field.name}={short(value)}: must be a list of names")


def _channel(_: object, __: object, value: Any) -> None:
    if value is None:
        return
    try:
        Template(value)
    except TemplateError as error:
        raise ConfigError(f"channel={short(value)}: {error}") from error


def _max_lag(_: object, __: object, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"max_lag={short(value)}: must be a number of messages of at least 1, or None")


@checks_arguments
@attrs.define(kw_only=True)
class KafkaSource:
    """Read messages of Kafka topics. The channel is the topic, or the part of it that fills the gap in `schema`.

    Topic, partition and offset identify a record: `seq` is the offset in partition 0, and a number above 9 * 10**18
    in other partitions. Order is kept within a partition, as Kafka guarantees. `time_ns` is the message's timestamp.
    `metadata` has `topic`, `partition`, `offset`, `timestamp_ms`, and, if the message has them, `key` and `headers`
    (text where they are UTF-8, else bytes; a list where a name repeats). Headers whose names are not UTF-8 are left
    out, and counted in `unreadable_headers`. A message without a value (a tombstone) has b"" as data and
    `tombstone: True` in its metadata.

    The members of a group share the partitions evenly, even if every topic has only one: with the group protocol of
    Kafka 4 (KIP-848) if the brokers support it, else with the classic protocol and cooperative-sticky assignment. The
    option `group.protocol`, or an option that only the classic protocol has (`session.timeout.ms`), overrides this
    choice. Committed offsets take precedence over `start`, unless the group is empty when this member opens. Offsets
    are committed at checkpoints only. While downstream is slow, the source pauses the partitions and keeps polling, so
    it stays in its group however long a record takes. After a rebalance, the new owner of a partition reads the
    uncommitted records again, with the same `seq`.

    Topics and partitions that appear later are read from their first message. A message that the broker deleted before
    it was read counts as lost. If a broker is down, the client waits and reconnects by itself.

    Attributes:
        bootstrap_servers: "host:port" of brokers: a list, or text with commas.
        topics: Names of topics. Set one of topics, pattern and schema.
        pattern: A regular expression for whole names of topics.
        schema: Names of topics with a gap for the channel: "raw_{{ channel }}", or comux's "raw_:cam_id".
        channels: The channels of the schema; None: those of all topics that match.
        channels_from: The origin of the schema's channels, read again every `refresh_s`: {"file": path} (one channel
            per line, or a JSON list), {"topic": name} (its keys; a tombstone removes one), or {"mongo": {"uri",
            "database", "collection", "field"}}.
        channel: A template of the channel, for topics that several cameras share: "{{ key }}", "{{ headers.camera }}";
            it overrides the topic and the schema. A message that lacks the key or header is dead-lettered.
        group: The consumer group; None reads all partitions alone and commits nothing.
        start: "committed" (partitions without a committed offset start at the beginning), "beginning", "end", or a
            time: seconds since 1970 or ISO 8601 with a zone.
        until_end: End at the offsets that were the ends of the partitions when they were assigned.
        max_lag: Messages that a partition may lag behind. Beyond it, the source skips ahead, counts the skipped
            messages as dropped, and marks the next record with `discontinuity`. None never skips.
        on_lag: Target of the skip: the "end", or the last "keyframe" before it, by `codec`.
        codec: Codec of the packets, by which `on_lag="keyframe"` recognises keyframes: "h264", "hevc", "mpeg1video",
            "mpeg2video", "mpeg4", "vp8", "vp9" or "av1".
        order: "arrival" returns messages as the client fetches them: a partition may be a mebibyte ahead of another.
            "time" reads lagging partitions in step, by the timestamps of their messages, so that cameras joined by
            `align` wait for each other here, as packets, and at the broker. A partition that lags by hours then delays
            the other lagging ones; messages younger than 2 s never wait.
        refresh_s: Seconds between listings of the topics, to find new and deleted ones.
        timeout_s: Seconds to wait for the broker at `open`, up to an hour.
        options: Options of the client (librdkafka's names), passed through; `{env = "NAME"}` for secrets. Never
            printed.
    """

    gives: ClassVar[str] = "bytes"
    stays_valid: ClassVar[bool] = True

    bootstrap_servers: str | Sequence[str] = attrs.field(converter=servers)
    topics: str | Sequence[str] | None = attrs.field(default=None, converter=_names, validator=_are_names)
    pattern: str | None = attrs.field(default=None)
    schema: str | None = attrs.field(default=None)
    channels: str | Sequence[str] | None = attrs.field(default=None, converter=_names, validator=_are_names)
    channels_from: Mapping[str, Any] | str | None = attrs.field(default=None, validator=check_channels_from, repr=False)
    channel: str | None = attrs.field(default=None, validator=_channel)
    group: str | None = attrs.field(default=None, validator=check_name)
    start: Any = attrs.field(default="committed")
    until_end: bool = attrs.field(default=False)
    max_lag: int | None = attrs.field(default=None, validator=_max_lag)
    on_lag: Literal["end", "keyframe"] = attrs.field(default="end", validator=one_of("end", "keyframe"))
    codec: str = attrs.field(
        default="h264", validator=one_of("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9", "av1")
    )
    order: Literal["arrival", "time"] = attrs.field(default="arrival", validator=one_of("arrival", "time"))
    refresh_s: float = attrs.field(default=5.0, validator=finite_seconds)
    timeout_s: float = attrs.field(default=10.0, validator=check_timeout)
    options: Mapping[str, Any] = attrs.field(factory=dict, validator=check_options, repr=False)
    _open: Consuming | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _jump: Jump | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _naming: Naming | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _refused: list[tuple[Record, BaseException]] = attrs.field(factory=list, init=False, repr=False, eq=False)
    _absence: str = attrs.field(default="", init=False, repr=False, eq=False)
    _channels: Channels | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        start_of(self.start)
        if self.channels_from is None or self.schema is None:
            Topics.of(topics=self.topics, pattern=self.pattern, schema=self.schema, channels=self.channels)
        if (self.channels is not None or self.channels_from is not None) and self.schema is None:
            name = "channels" if self.channels is not None else "channels_from"
            raise ConfigError(f"{name}: belongs to a schema, as in schema='raw_{{{{ channel }}}}'; set topics instead")

    def open(self) -> None:
        """Connect. Raises SourceError if no broker answers or grants access; ConfigError for bad options."""
        if self._open is not None:
            raise SourceError(f"{self._where()} is open already: close it first", retryable=False)
        errors, commits = TransientErrors(self._where()), Commits(self._where())

        def made(protocol: str | None) -> Consumer:
            try:
                config = {**self._config(protocol), "error_cb": errors.report, "on_commit": commits.answered}
                return Consumer(config, logger=ClientLog())
            except (KafkaException, TypeError, ValueError) as error:
                raise config_error(self._where(), error) from error

        cluster = Cluster(self._admin_config(), timeout_s=self.timeout_s)
        is_free = (
            self.group is not None and not CLASSIC_ONLY & set(self.options) and "group.protocol" not in self.options
        )
        consumer = made("consumer" if is_free else None)
        try:
            existing = self._reach(consumer, errors.recent)
            if is_free and not cluster.may_have_new_groups():
                is_free = False
                consumer.close()
                consumer = made(None)
            self._channels = self._channel_list()
            self._absence = self._current_topics().absence(existing)
            if self._absence:
                _log.warning("%s: %s", self._where(), self._absence)
            literal = self.group is None or (self.start != "committed" and cluster.is_group_empty(self.group))
            consuming = Consuming(
                consumer,
                where=self._where(),
                topics=self._current_topics,
                cluster=cluster,
                starts=Starts(
                    start=start_of(self.start),
                    group=self.group is not None,
                    literal=literal,
                    timeout_s=self.timeout_s,
                ),
                commits=commits,
                report=errors.report,
                group=self.group is not None,
                is_cooperative="cooperative" in str(self.options.get("partition.assignment.strategy", "cooperative")),
                classic=(lambda: made(None)) if is_free else None,
                until_end=self.until_end,
                in_step=self.order == "time",
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
            **(_EVEN if self.order == "time" else {}),
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

    def _reach(self, consumer: Consumer, recent: Sequence[Any]) -> dict[str, int]:
        try:
            return existing_topics(consumer, self.timeout_s)
        except KafkaException as error:
            consumer.poll(0)  # calls error_cb with the cause
            known = next((each for each in recent if "_ALL_BROKERS_DOWN" not in each.name()), error)
            raise source_error(self._where(), known, doing="connect") from error

    def _admin_config(self) -> dict[str, Any]:
        return {**client_config(self.bootstrap_servers, self.options), "log_level": 2}

    def _channel_list(self) -> Channels | None:
        if self.channels_from is None:
            return None
        return Channels(
            self.channels_from,
            schema=Schema(self.schema or ""),
            bootstrap_servers=self.bootstrap_servers,
            options=self.options,
        )

    def _current_topics(self) -> Topics:
        channels = self.channels if self._channels is None else self._channels.current(every_s=self.refresh_s)
        return Topics.of(topics=self.topics, pattern=self.pattern, schema=self.schema, channels=channels)

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return messages in order within each partition; () if none arrived. Raises SourceError, EndOfSource."""
        consuming = self._opened()
        taken = consuming.take(max_records, timeout_s)
        if self._jump is not None:
            taken = self._jump.over(taken)
        if not taken and self.until_end and consuming.is_at_end():
            raise EndOfSource(f"{self._where()}: all partitions were read to their ends")
        records = ExactRecords(record_of(partition, message) for partition, message in taken)
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
        """Return the messages since the last call that lack a key or header that `channel` needs, with the errors."""
        refused, self._refused = self._refused, []
        return refused

    def position(self) -> dict[str, int]:
        """Return the next offset of each partition, by "topic/partition"."""
        return {name: each.next for name, each in list(self._opened().partitions.items())}

    def commit(self, position: Mapping[str, int]) -> None:
        """Commit the offsets of the partitions that this member still owns; no-op without a group. Raises SourceError.

        The commit waits up to `timeout_s` for the brokers.
        """
        self._opened().commit(position)

    def to_keep(self, position: Mapping[str, int]) -> dict[str, Any]:
        """Return a position with the ids of its topics, so that `seek` can tell that a topic was recreated since."""
        return self._opened().to_keep(position)

    def seek(self, position: Mapping[str, Any]) -> None:
        """Continue at these offsets, in each partition as soon as it is assigned."""
        self._opened().seek(position)

    def lag(self) -> int:
        """Return the number of messages that this consumer's partitions hold beyond the last one read."""
        consuming = self._open
        if consuming is None:
            return 0
        return sum(max(0, each.high - each.next) for each in list(consuming.partitions.values()))

    def lag_s(self) -> float:
        """Return the age in seconds of the last message read, of the partition furthest behind; 0 without lag."""
        consuming = self._open
        behind = [each for each in list(consuming.partitions.values()) if each.high > each.next] if consuming else []
        return max((time.time() - each.last_ms / 1000 for each in behind if each.last_ms), default=0.0)

    def lost_upstream(self) -> Mapping[str, int]:
        """Return the number of messages that the broker deleted before they were read, by channel."""
        return dict(self._open.lost) if self._open is not None else {}

    def dropped_upstream(self) -> Mapping[str, int]:
        """Return the number of messages skipped because of `max_lag`, by channel."""
        return dict(self._jump.dropped) if self._jump is not None else {}

    def remarks(self) -> Sequence[Remark]:
        """Return warnings on topics that did not exist at `open`, and on the messages skipped because of `max_lag`."""
        skipped = self._jump.remark() if self._jump is not None else ""
        return [Remark(text, "warning") for text in (self._absence, skipped) if text]

    def close(self) -> None:
        """Leave the group. Uncommitted records are read again by the next owner of the partition."""
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
