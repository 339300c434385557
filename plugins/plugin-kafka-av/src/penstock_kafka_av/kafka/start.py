"""The first offset of a partition: its end, its beginning, a time, or the group's committed offset."""

from __future__ import annotations

import datetime
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
from confluent_kafka import KafkaException

from penstock.errors import ConfigError
from penstock.short_text import short

if TYPE_CHECKING:
    from confluent_kafka import Consumer, TopicPartition

WORDS: Final = ("end", "beginning", "committed")


def start_of(value: Any) -> str | int:
    """Return a setting `start` as one of WORDS, or a time in milliseconds since 1970. Raises ConfigError.

    >>> start_of("1970-01-01T00:00:02Z"), start_of(2.5), start_of("end")
    (2000, 2500, 'end')
    """
    if value in WORDS:
        return str(value)
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            raise ConfigError(
                f"start={short(value)}: must be 'end', 'beginning', 'committed', or a time: seconds since 1970, or "
                "'2026-05-04T12:30:00+02:00'"
            ) from None
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ConfigError(f"start={value.isoformat()!r}: has no time zone; add one, as in '…T12:30:00Z'")
        value = value.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise ConfigError(f"start={short(value)}: must be 'end', 'beginning', 'committed', or seconds since 1970")
    return math.floor(value * 1000 + 0.001)  # down, to include that whole millisecond; 0.001 for rounding


@attrs.define(kw_only=True)
class Starts:
    """Decide the first offset of each partition.

    A position that a store or an earlier opening kept (`sought`) wins. Otherwise the group's committed offset counts,
    unless the group was empty at `open` and the user set `start`: then the first partitions begin at `start`. Topics
    and partitions that appear later begin at their first message, since all their messages are newer than the start. A
    partition that was revoked and assigned again continues at its last offset if no other member has committed in the
    meantime: its uncommitted records are still in the pipeline.

    Attributes:
        start: One of WORDS, or milliseconds since 1970.
        group: Whether the consumer has a group, which may have committed offsets.
        literal: Whether `start` overrides committed offsets; true until the first partitions have begun.
        timeout_s: Seconds to wait for the broker's answers.
        known: Partitions that existed at the start, as "topic/partition".
        sought: Kept positions, by "topic/partition".
        left: For each revoked partition, the offset where another member would resume, and this consumer's next offset.
        continued: Of the partitions begun last, those that continue at this consumer's own offset.
        fresh: Of the partitions begun last, those without an applicable committed offset.
    """

    start: str | int
    group: bool
    literal: bool
    timeout_s: float
    known: Collection[str] = ()
    sought: dict[str, int] = attrs.field(factory=dict)
    left: dict[str, tuple[int, int]] = attrs.field(factory=dict)
    continued: set[str] = attrs.field(factory=set)
    fresh: set[str] = attrs.field(factory=set)

    def begin(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> Mapping[str, int]:
        """Return the first offset of each partition, by "topic/partition". Raises KafkaException."""
        first: dict[str, int] = {}
        names = {f"{each.topic}/{each.partition}": each for each in partitions}
        sought = {name: self.sought[name] for name in names if name in self.sought}
        asked = [each for name, each in names.items() if name not in sought]
        if asked and self.group and not (self.literal and self.start != "committed"):
            for each in consumer.committed(asked, timeout=self.timeout_s):
                if each.error is not None:
                    raise KafkaException(each.error)
                if each.offset >= 0:
                    first[f"{each.topic}/{each.partition}"] = each.offset
        continued = {
            name: at
            for name, (resume, at) in self.left.items()
            if name in names and name not in sought and first.get(name, resume) == resume
        }
        first |= continued | sought
        fresh = self._fresh(consumer, [each for name, each in names.items() if name not in first])
        self.continued, self.fresh = set(continued), set(fresh)
        for name in names:
            self.sought.pop(name, None)
            self.left.pop(name, None)
        if partitions:
            self.literal = False
        return first | dict(fresh)

    def forget(self, topic: str) -> None:
        """Forget a deleted topic: a later topic of the same name is a new one, and newer than the start."""
        self.known = {name for name in self.known if name.rpartition("/")[0] != topic}
        for positions in (self.left, self.sought):
            for name in [each for each in positions if each.rpartition("/")[0] == topic]:
                del positions[name]

    def _fresh(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> Mapping[str, int]:
        from confluent_kafka import TopicPartition

        first: dict[str, int] = {}
        by_time = []
        for each in partitions:
            name = f"{each.topic}/{each.partition}"
            if name in self.known and isinstance(self.start, int):
                by_time.append(TopicPartition(each.topic, each.partition, self.start))
                continue
            low, high = consumer.get_watermark_offsets(each, timeout=self.timeout_s)
            first[name] = high if self.start == "end" and name in self.known else low
        for each in consumer.offsets_for_times(by_time, timeout=self.timeout_s) if by_time else ():
            at = each.offset
            if at < 0:  # no message is that recent
                at = consumer.get_watermark_offsets(each, timeout=self.timeout_s)[1]
            first[f"{each.topic}/{each.partition}"] = at
        return first
