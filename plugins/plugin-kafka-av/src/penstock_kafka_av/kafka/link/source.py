"""KafkaLinkSource: the receiving end of a link whose records wait in a topic."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from penstock.arguments import checks_arguments
from penstock.codec import decode
from penstock.component import Remark
from penstock.errors import CodecError, EndOfSource, SourceError
from penstock.record import Record
from penstock.validators import at_least, finite_seconds
from penstock_kafka_av.kafka.link.earlier_messages import messages_before
from penstock_kafka_av.kafka.link.mark import HEADER, Mark
from penstock_kafka_av.kafka.link.seen import Seen, text_or_bytes
from penstock_kafka_av.kafka.options import check_name, check_options, check_timeout, client_config, servers
from penstock_kafka_av.kafka.source import KafkaSource
from penstock_kafka_av.kafka.topics import check_topic


@checks_arguments
@attrs.define(kw_only=True)
class KafkaLinkSource:
    """Read the records that `kafka-link` stores wrote to a topic: each once, unchanged, in order within each channel.

    It begins at the first record that its group has not committed, and commits at checkpoints. Sources of one group
    share the partitions; each group receives all records. Records that a killed run of the store wrote twice are
    removed (`remark` counts them): duplicates have the same channel, number and time, and are found within the last
    `remember` records of the partition. After a start, the source also reads earlier records for this purpose, if a
    store was opened recently.

    A message that is not a record of a link is dead-lettered. Records that the broker deleted before they were read
    count as lost. After a loss or a rebalance, each affected channel's next record has `discontinuity`.

    Attributes:
        bootstrap_servers: "host:port" of brokers: a list, or text with commas.
        topic: The name of the link.
        group: The consumer group; by default the name of the topic.
        until_end: End once `publishers` stores have been seen, and the last run of each has ended in order. After a
            killed or aborted run, the source waits for its restart.
        publishers: Number of stores that `until_end` waits for.
        remember: Number of latest records of each partition among which duplicates are found.
        refresh_s: Seconds between listings of the topics, to find a missing topic and new partitions.
        timeout_s: Seconds to wait for the broker at `open`, up to an hour.
        options: Options of the client (librdkafka's names), passed through; `{env = "NAME"}` for secrets. Never
            printed.
    """

    gives: ClassVar[str] = "any"
    stays_valid: ClassVar[bool] = True

    bootstrap_servers: str | Sequence[str] = attrs.field(converter=servers)
    topic: str = attrs.field(validator=check_topic)
    group: str | None = attrs.field(default=None, validator=check_name)
    until_end: bool = attrs.field(default=False)
    publishers: int = attrs.field(default=1, validator=at_least(1))
    remember: int = attrs.field(default=10_000, validator=at_least(1))
    refresh_s: float = attrs.field(default=2.0, validator=finite_seconds)
    timeout_s: float = attrs.field(default=10.0, validator=check_timeout)
    options: Mapping[str, Any] = attrs.field(factory=dict, validator=check_options, repr=False)
    _kafka: KafkaSource | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _seen: dict[int, Seen] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _channels: dict[str, int] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _broken: set[str] = attrs.field(factory=set, init=False, repr=False, eq=False)
    _refused: list[tuple[Record, BaseException]] = attrs.field(factory=list, init=False, repr=False, eq=False)
    _duplicates: int = attrs.field(default=0, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Connect. Raises SourceError naming the brokers if none answers; ConfigError for bad options."""
        if self._kafka is not None:
            raise SourceError(f"{self._where()} is open already: close it first", retryable=False)
        kafka = KafkaSource(
            bootstrap_servers=self.bootstrap_servers, topics=[self.topic], group=self.group or self.topic,
            refresh_s=self.refresh_s, timeout_s=self.timeout_s, options=self.options,
        )  # fmt: skip
        kafka.open()
        self._kafka, self._duplicates = kafka, 0
        self._seen.clear()
        self._channels.clear()
        self._broken.clear()
        self._refused.clear()

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return up to `max_records` records; () if none arrived in time. Raises SourceError, EndOfSource.

        Messages that hold no record (marks of a store, duplicates) do not shorten the time that it waits.
        """
        kafka = self._opened()
        until = time.monotonic() + timeout_s
        while True:
            messages = kafka.read(max_records, max(0.0, until - time.monotonic()))
            records = [record for message in messages if (record := self._record(message)) is not None]
            if not messages and self.until_end and self._has_ended(kafka):
                raise EndOfSource(f"{self._where()}: all sending runs have ended")
            if records or self._refused or time.monotonic() >= until:
                return records

    def _record(self, message: Record) -> Record | None:
        number, offset = message.metadata["partition"], message.metadata["offset"]
        seen = self._seen_of(number, offset)
        seen.next = offset + 1
        if message.discontinuity:
            self._broken.update(channel for channel, where in self._channels.items() if where == number)
        try:
            mark, record = opened(message)
        except CodecError as error:
            self._refused.append((message, error))
            return None
        if seen.needs_filling(mark):
            self._fill(number, seen)
        seen.note(mark)
        if record is None:
            return None
        if not seen.is_new(mark, record):
            self._duplicates += 1
            return None
        self._channels[record.channel] = number
        if self._broken and record.channel in self._broken:
            self._broken.discard(record.channel)
            return record.replace(discontinuity=True)
        return record

    def _seen_of(self, number: int, offset: int) -> Seen:
        """Return the recent records of a partition; none if another member has read it in the meantime."""
        seen = self._seen.get(number)
        if seen is None or seen.next != offset:
            seen = self._seen[number] = Seen(offset, remember=self.remember)
        return seen

    def _fill(self, number: int, seen: Seen) -> None:
        config = client_config(self.bootstrap_servers, self.options)
        found = messages_before(
            config, self.topic, number, seen.begun, count=self.remember, timeout_s=self.timeout_s, where=self._where()
        )
        seen.fill(found)

    def _has_ended(self, kafka: KafkaSource) -> bool:
        """Return whether all assigned partitions are read, and hold the ends of all sending runs."""
        position = kafka.position()
        for name, offset in position.items():
            number = int(name.rpartition("/")[2])
            seen = self._seen_of(number, offset)
            if not seen.is_filled and not seen.has_ended(self.publishers):
                self._fill(number, seen)
            if not seen.has_ended(self.publishers):
                return False
        return bool(position) and kafka.lag() == 0

    def take_refused(self) -> Sequence[tuple[Record, BaseException]]:
        """Return the messages since the last call that are not records of a link, with the errors."""
        refused, self._refused = self._refused, []
        return refused

    def position(self) -> dict[str, int]:
        """Return the next offset of each partition, by "topic/partition"."""
        return self._opened().position()

    def commit(self, position: Mapping[str, int]) -> None:
        """Commit the offsets of the partitions that this member still owns. Raises SourceError."""
        self._opened().commit(position)

    def to_keep(self, position: Mapping[str, int]) -> dict[str, Any]:
        """Return a position with the id of the topic, so that `seek` can tell that it was recreated since."""
        return self._opened().to_keep(position)

    def seek(self, position: Mapping[str, Any]) -> None:
        """Continue at these offsets, in each partition as soon as it is assigned."""
        self._opened().seek(position)
        for name in position:  # records after the seek are not duplicates
            number = name.rpartition("/")[2]
            if number != "id":
                self._seen.pop(int(number), None)

    def lag(self) -> int:
        """Return the number of messages that wait in this source's partitions."""
        return self._kafka.lag() if self._kafka is not None else 0

    def lag_s(self) -> float:
        """Return the age in seconds of the last message read, of the partition furthest behind; 0 without lag."""
        return self._kafka.lag_s() if self._kafka is not None else 0.0

    def lost_upstream(self) -> Mapping[str, int]:
        """Return the number of messages that the brokers deleted before they were read, keyed by the topic."""
        return self._kafka.lost_upstream() if self._kafka is not None else {}

    def remarks(self) -> Sequence[Remark]:
        """Return a warning on the duplicates removed, if there were any."""
        if not self._duplicates:
            return []
        text = f"removed {self._duplicates} duplicates of records that an interrupted run had written before"
        return [Remark(text, "warning")]

    def close(self) -> None:
        """Leave the group."""
        kafka, self._kafka = self._kafka, None
        if kafka is not None:
            kafka.close()

    def _opened(self) -> KafkaSource:
        if self._kafka is None:
            raise SourceError(f"{self._where()} is not open: call open() first", retryable=False)
        return self._kafka

    def _where(self) -> str:
        return f"kafka-link source {self.topic!r} at {','.join(self.bootstrap_servers)}"


def opened(message: Record) -> tuple[Mark, Record | None]:
    """Return the mark of a message and the record inside, None for an end mark. Raises CodecError."""
    headers = message.metadata.get("headers") or {}
    if HEADER not in headers:
        raise CodecError(
            f"offset {message.metadata['offset']} of {message.metadata['topic']!r} has no header {HEADER!r}: "
            "only kafka-link stores write to a link"
        )
    mark = Mark.of(text_or_bytes(headers[HEADER]))
    return mark, None if mark.is_end else decode(message.data)
