"""Assigned: the partitions of a consumer, from assignment to revocation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from penstock_kafka_av.kafka.backlog import Backlog
from penstock_kafka_av.kafka.commits import Commits
from penstock_kafka_av.kafka.errors import error_of
from penstock_kafka_av.kafka.in_step import InStep
from penstock_kafka_av.kafka.partition import Partition
from penstock_kafka_av.kafka.start import Starts

_log = logging.getLogger("penstock.kafka")
_AGAIN_S: Final = 0.2
"""Seconds until the next attempt to begin a partition whose start offset could not be determined."""


class Assigned:
    """The partitions assigned to a consumer, by its group or by itself. Callers hold the lock of `Consuming`.

    Attributes:
        consumer: The consumer.
        partitions: Assigned partitions with a known start offset, by "topic/partition".
        pending: Assigned partitions whose start offset is not known yet.
        waiting: Messages that were polled and not returned by `take` yet.
        lost: Messages that were deleted before they were read, by channel.
        given_up: Partitions revoked since the topics were last listed, by "topic/partition".
        starts: The rules for start offsets.
        has_begun: Whether any partition has begun since `open`.
        is_paused: Whether all partitions are paused.
        is_closing: Whether the consumer is closing, so that no partition begins any more.
    """

    def __init__(
        self,
        consumer: Consumer,
        *,
        where: str,
        starts: Starts,
        commits: Commits,
        channel: Callable[[str], str],
        report: Callable[[Any], None],
        group: bool,
        is_cooperative: bool,
        until_end: bool,
        in_step: bool,
        timeout_s: float,
    ) -> None:
        self.consumer = consumer
        self.partitions: dict[str, Partition] = {}
        self.pending: list[TopicPartition] = []
        self.waiting = InStep(self.partitions, self._high) if in_step else Backlog()
        self.lost: dict[str, int] = {}
        self.given_up: dict[str, Partition] = {}
        self.starts = starts
        self.has_begun = self.is_paused = self.is_closing = False
        self._where = where
        self._commits = commits
        self._channel = channel
        self._report = report
        self._group = group
        self._is_cooperative = is_cooperative
        self._until_end = until_end
        self._timeout_s = timeout_s
        self._later = 0.0

    def on_assign(self, consumer: Consumer, keys: list[TopicPartition]) -> None:
        """Begin the partitions, or postpone them while the broker cannot tell their start offsets.

        The client ignores exceptions of this callback, so it raises none.
        """
        self.pending += keys
        if not self.is_closing:
            self.begin_pending()
        if self.pending and self._is_cooperative:
            consumer.incremental_assign([])
        elif self.pending:
            consumer.assign([])

    def begin_pending(self) -> None:
        """Begin the partitions whose start offsets were not known when they were assigned."""
        if not self.pending or time.monotonic() < self._later:
            return
        keys, self.pending = self.pending, []
        try:
            self.begin(keys)
        except KafkaException as error:  # the client does not know the partition yet, or no broker answers
            self.pending, self._later = keys, time.monotonic() + _AGAIN_S
            self._report(error_of(error) or error)

    def on_revoke(self, consumer: Consumer, keys: list[TopicPartition]) -> None:
        """Give partitions up, and remember this consumer's offsets in them."""
        moved = {(key.topic, key.partition) for key in keys}
        begun = [key for key in keys if f"{key.topic}/{key.partition}" in self.partitions]
        self.pending = [key for key in self.pending if (key.topic, key.partition) not in moved]
        if self._is_cooperative:
            consumer.incremental_unassign(begun)
        else:
            consumer.unassign()
        for key in begun:
            gone = self.given_up[f"{key.topic}/{key.partition}"] = self.partitions[f"{key.topic}/{key.partition}"]
            self.starts.left[gone.name] = (gone.begun if gone.committed is None else gone.committed, gone.next)
        self.forget(keys)

    def on_lost(self, consumer: Consumer, keys: list[TopicPartition]) -> None:
        """Give up partitions that other members own by now."""
        _log.warning("%s: lost %d partitions to other members of its group", self._where, len(keys))
        self.on_revoke(consumer, keys)

    def begin(self, keys: Sequence[TopicPartition]) -> None:
        """Begin partitions at their start offsets. Raises KafkaException, and then none has begun."""
        offsets = self.starts.begin(self.consumer, keys)
        begun = []
        for key in keys:
            name = f"{key.topic}/{key.partition}"
            made = Partition(
                topic=key.topic, number=key.partition, channel=self._channel(key.topic), next=offsets[name]
            )
            made.is_broken = self.has_begun and name not in self.starts.continued
            if self._until_end:
                made.stop = self.consumer.get_watermark_offsets(key, timeout=self._timeout_s)[1]
            begun.append(made)
        starting = [each.key(each.next) for each in begun]
        if self._is_cooperative or not self._group:
            self.consumer.incremental_assign(starting)
        else:
            self.consumer.assign(starting)
        self.has_begun = True
        self.partitions.update((each.name, each) for each in begun)
        fresh = [each.key(each.next) for each in begun if each.name in self.starts.fresh]
        if self._group and fresh:  # so a member that takes over before the first checkpoint begins at the same offset
            self._commits.send(self.consumer, fresh)
        if begun and self.is_paused:
            self.consumer.pause(starting)
        elif begun:
            self.consumer.resume(starting)

    def forget(self, keys: Iterable[TopicPartition]) -> None:
        """Forget partitions and their waiting messages."""
        gone = {f"{key.topic}/{key.partition}" for key in keys}
        self._drop(gone)
        for name in gone:
            self.partitions.pop(name, None)

    def _drop(self, names: Collection[str]) -> None:
        """Drop the waiting messages of these partitions, and resume those that were held back."""
        ahead = [
            self.partitions[name].key() for name in names if self.waiting.is_ahead(name) and name in self.partitions
        ]
        self.waiting.drop(names)
        if ahead and not self.is_paused:
            self.consumer.resume(ahead)

    def hold_back(self) -> None:
        """Pause partitions with too many waiting messages, and resume those with few."""
        stop, go = self.waiting.to_hold_back()
        if stop:
            self.consumer.pause([each.key() for each in stop])
        if go:
            self.consumer.resume([each.key() for each in go])

    def _high(self, partition: Partition) -> int:
        partition.high = int(self.consumer.get_watermark_offsets(partition.key(), cached=True)[1])
        return partition.high

    def move(self, partition: Partition, offset: int) -> None:
        """Continue at this offset, and mark the next record as a discontinuity."""
        key = partition.key(offset)
        self.consumer.incremental_unassign([key])
        self.consumer.incremental_assign([key])
        partition.next, partition.is_broken, partition.is_at_end = offset, True, False
        self._drop({partition.name})

    def out_of_range(self, partition: Partition) -> None:
        """Continue at the partition's first offset, and count messages that were deleted before they were read."""
        low, high = self.consumer.get_watermark_offsets(partition.key(), timeout=self._timeout_s)
        wanted = partition.next
        if wanted < low:
            self.lost[partition.channel] = self.lost.get(partition.channel, 0) + low - wanted
            _log.warning(
                "%s: %s: offsets %d to %d were deleted before they were read; continuing at %d",
                self._where, partition.name, wanted, low - 1, low,
            )  # fmt: skip
        else:
            _log.warning(
                "%s: %s: offset %d is beyond the end %d: the topic was recreated; reading from offset %d",
                self._where, partition.name, wanted, high, low,
            )  # fmt: skip
        self.move(partition, low)
        partition.begun, partition.committed = low, None

    def lose(self, topic: str) -> None:
        """Count the unread messages that a deleted topic held when its ends were last queried as lost."""
        for each in [*self.given_up.values(), *self.partitions.values()]:
            if each.topic != topic:
                continue
            missed = each.sure_high - each.next
            if missed > 0:
                self.lost[each.channel] = self.lost.get(each.channel, 0) + missed
                _log.warning(
                    "%s: %s was deleted before offsets %d to %d were read",
                    self._where, each.name, each.next, each.sure_high - 1,
                )  # fmt: skip
            each.sure_high = -1

    def begin_again(self, topic: str) -> None:
        """Read a recreated topic from its beginning: the old topic's offsets do not apply to it."""
        _log.warning("%s: topic %r was recreated; reading it from its beginning", self._where, topic)
        for each in [each for each in self.partitions.values() if each.topic == topic]:
            low, high = self.consumer.get_watermark_offsets(each.key(), timeout=self._timeout_s)
            self.move(each, low)
            each.begun, each.committed, each.high, each.sure_high = low, None, high, high
            if self._until_end:
                each.stop = high

    def pause(self) -> None:
        """Pause all partitions, including those that are assigned while paused."""
        if not self.is_paused:
            self.is_paused = True
            self.consumer.pause([each.key() for each in self.partitions.values()])

    def resume(self) -> None:
        """Resume all partitions, except those that are held back."""
        if self.is_paused:
            self.is_paused = False
            free = [each.key() for name, each in self.partitions.items() if not self.waiting.is_ahead(name)]
            self.consumer.resume(free)
