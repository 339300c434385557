"""Consuming: a consumer at work, with its partitions, and a thread that keeps it in its group."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from penstock.errors import SourceError
from penstock_kafka_av.kafka.cluster import Cluster
from penstock_kafka_av.kafka.commits import Commits
from penstock_kafka_av.kafka.errors import HOPELESS, error_of, is_unsupported, source_error, text_of
from penstock_kafka_av.kafka.partition import Partition
from penstock_kafka_av.kafka.start import Starts
from penstock_kafka_av.kafka.topics import Topics

_log = logging.getLogger("penstock.kafka")
_IDLE_S: Final = 0.5
"""Without a call of `read` for so long, the partitions are paused and the thread polls."""
_SAID_AGAIN_S: Final = 60.0
_ANSWER_S: Final = 0.005
_AGAIN_S: Final = 0.2
"""Seconds until a partition that could not be begun is tried again."""


class Consuming:
    """A consumer, what it is assigned, and where it stands in each partition.

    `take` is called by one thread. If it is not called, since what comes behind is slow, a thread pauses all partitions
    and polls in its stead: so the consumer stays in its group, whatever a record takes. The same thread looks for
    topics and partitions that appear, and for those that are gone.

    Attributes:
        partitions: What is assigned now, by "topic/partition".
        rejected: Errors of partitions that were answered and passed over.
    """

    def __init__(
        self,
        consumer: Consumer,
        *,
        where: str,
        topics: Callable[[], Topics],
        cluster: Cluster,
        starts: Starts,
        commits: Commits,
        group: bool,
        is_cooperative: bool,
        classic: Callable[[], Consumer] | None,
        until_end: bool,
        refresh_s: float,
        timeout_s: float,
    ) -> None:
        self.partitions: dict[str, Partition] = {}
        self.lost: dict[str, int] = {}
        self._consumer = consumer
        self._where = where
        self._topics = topics
        self._cluster = cluster
        self._starts = starts
        self._commits = commits
        self._group = group
        self._is_cooperative = is_cooperative
        self._classic = classic
        self._until_end = until_end
        self._refresh_s = refresh_s
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._waiting: deque[Message] = deque()
        self._paused = False
        self._pending: list[TopicPartition] = []
        self._pending_until = 0.0
        self._assigned_once = False
        self._subscribed: list[str] = []
        self._failure: SourceError | None = None
        self._said: dict[Any, float] = {}
        self._taken_at = time.monotonic()
        self._refreshed_at = time.monotonic()
        self._meant: Topics = topics()
        self._known_ids: dict[str, str] = {}
        self._given_up: dict[str, Partition] = {}
        self._found: tuple[Topics, Mapping[str, int], Mapping[str, str]] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"penstock {where}", daemon=True)

    def start(self, existing: Mapping[str, int]) -> None:
        """Begin with the topics that exist, and start the thread. Raises SourceError."""
        self._starts.known = {f"{topic}/{number}" for topic, count in existing.items() for number in range(count)}
        try:
            ids = self._cluster.ids(self._meant.choose(existing))
            with self._lock:
                self._follow(self._meant, existing, ids, first=True)
        except KafkaException as error:
            raise source_error(self._where, error, doing="begin") from error
        self._thread.start()

    def take(self, most: int, timeout_s: float) -> list[tuple[Partition, Message]]:
        """Return messages of partitions that are assigned, in order for each. Raises SourceError."""
        with self._lock:
            self._taken_at = time.monotonic()
            self._resume()
            self._follow_found()
            self._begin_pending()
            found: list[Message] = []
            while self._waiting and len(found) < most:
                found.append(self._waiting.popleft())
            try:
                if len(found) < most:
                    found += self._consumer.consume(most - len(found), 0)
                if not found and timeout_s > 0:
                    found = self._consumer.consume(1, timeout_s)
                    if found and most > 1:
                        found += self._consumer.consume(most - 1, 0)
            except KafkaException as error:
                raise source_error(self._where, error, doing="read") from error
            self._taken_at = time.monotonic()
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            given = self._sorted(found)
            for partition in {id(each): each for each, _ in given}.values():
                self.high(partition)
            return given

    def _sorted(self, found: Iterable[Message]) -> list[tuple[Partition, Message]]:
        given = []
        partitions = self.partitions
        for message in found:
            partition = partitions.get(f"{message.topic()}/{message.partition()}")
            error = message.error()
            if error is not None:
                self._answer(error, message, partition)
            elif partition is not None and (offset := cast("int", message.offset())) >= partition.next:
                partition.next = offset + 1
                given.append((partition, message))
        return given

    def _answer(self, error: KafkaError, message: Message, partition: Partition | None) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            if partition is not None:
                partition.next = max(partition.next, message.offset() or 0)
                partition.is_at_end = True
        elif code == KafkaError._AUTO_OFFSET_RESET and partition is not None:
            self._out_of_range(partition)
        elif self._classic is not None and is_unsupported(error):
            self._fall_back(self._classic)
        elif code == KafkaError._FATAL or error.fatal() or code in HOPELESS:
            raise source_error(self._where, error, doing="read")
        else:
            self.say(error)

    def _fall_back(self, classic: Callable[[], Consumer]) -> None:
        """Join the group by the classic protocol: only a try has shown that the brokers lack the new one."""
        _log.info("%s: the brokers have no group protocol of KIP-848; the classic one is used", self._where)
        self._classic = None
        consumer, self._consumer = self._consumer, classic()
        consumer.close()
        self._forget([each.key() for each in self.partitions.values()])
        self._pending = []
        self._subscribe()

    def _out_of_range(self, partition: Partition) -> None:
        """Go on where the partition is: what was deleted before it was read is lost."""
        low, high = self._consumer.get_watermark_offsets(partition.key(), timeout=self._timeout_s)
        wanted = partition.next
        if wanted < low:
            self.lost[partition.channel] = self.lost.get(partition.channel, 0) + low - wanted
            _log.warning(
                "%s: %s: offsets %d to %d were deleted before they were read; it goes on at %d",
                self._where, partition.name, wanted, low - 1, low,
            )  # fmt: skip
        else:
            _log.warning(
                "%s: %s: there is no offset %d, it ends at %d: the topic was made again; it is read from %d on",
                self._where, partition.name, wanted, high, low,
            )  # fmt: skip
        self.move(partition, low)
        partition.begun, partition.committed = low, None

    def move(self, partition: Partition, offset: int) -> None:
        """Go on at this offset; what comes next does not continue what came."""
        key = partition.key(offset)
        self._consumer.incremental_unassign([key])
        self._consumer.incremental_assign([key])
        partition.next, partition.is_broken, partition.is_at_end = offset, True, False
        self._waiting = deque(each for each in self._waiting if f"{each.topic()}/{each.partition()}" != partition.name)

    def is_at_end(self) -> bool:
        """Tell whether everything that was there has been given."""
        with self._lock:
            return self._assigned_once and not self._waiting and not self._pending and all(
                each.is_at_end or each.next >= each.stop for each in self.partitions.values()
            )  # fmt: skip

    def high(self, partition: Partition) -> int:
        """Return the offset behind the last message of a partition, as far as the client knows; -1 if it does not.

        Called by the thread that reads: the client's call can block, with the interpreter, beside one of `consume`.
        """
        with self._lock:
            partition.high = int(self._consumer.get_watermark_offsets(partition.key(), cached=True)[1])
        return partition.high

    def commit(self, position: Mapping[str, int]) -> None:
        """Commit what of a position is still this consumer's. Raises SourceError."""
        if not self._group:
            return
        with self._lock:
            due = []
            for name, offset in position.items():
                partition = self.partitions.get(name)
                if (
                    partition is not None
                    and partition.begun <= offset <= partition.next
                    and offset != partition.committed
                ):
                    due.append((partition, offset))
            if due:
                self._send_commit([partition.key(offset) for partition, offset in due])

    def _send_commit(self, offsets: list[TopicPartition]) -> None:
        """Commit, and wait for the answer; brokers that do not answer in time are left to answer later."""
        waits = self._commits.unanswered == 0
        try:
            self._commits.send(self._consumer, offsets)
            until = time.monotonic() + (self._timeout_s if waits else 0.0)
            while self._commits.unanswered and time.monotonic() < until:
                message = self._consumer.poll(_ANSWER_S)
                if message is not None:
                    self._waiting.append(message)
        except KafkaException as error:
            raise source_error(self._where, error, doing="commit") from error
        self._commits.heed(self.partitions)

    def seek(self, position: Mapping[str, int]) -> None:
        """Go on at these offsets: now, or when the partition is assigned."""
        with self._lock:
            for name, offset in position.items():
                partition = self.partitions.get(name)
                if partition is None:
                    self._starts.sought[name] = offset
                elif partition.next != offset:
                    self.move(partition, offset)
                    partition.begun = min(partition.begun, offset)

    def close(self) -> None:
        """Leave the group, and end the thread. Brokers that do not answer are waited for no longer than `timeout_s`."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            leaving = threading.Thread(target=self._consumer.close, name=f"penstock {self._where} leaves", daemon=True)
            leaving.start()
            leaving.join(self._timeout_s)
            if leaving.is_alive():  # the client waits for answers without an end; the group misses this member in time
                _log.warning("%s: the brokers do not answer; it leaves its group without their word", self._where)
            self._cluster.close()
            self.partitions.clear()
            self._waiting.clear()

    def say(self, error: Any) -> None:
        """Log a passing error, once a minute for each kind. Called by the client from `take` and the thread."""
        code = error.code() if isinstance(error, KafkaError) else str(error)
        now = time.monotonic()
        if now - self._said.get(code, -_SAID_AGAIN_S) >= _SAID_AGAIN_S:
            self._said[code] = now
            _log.warning("%s: %s", self._where, text_of(error))

    # Partitions come and go.

    def _on_assign(self, consumer: Consumer, keys: list[TopicPartition]) -> None:
        """Begin the partitions, now or, if the broker cannot say where, later; what is raised here would be lost."""
        self._pending += keys
        if not self._closing.is_set():
            self._begin_pending()
        if self._pending and self._is_cooperative:
            consumer.incremental_assign([])
        elif self._pending:
            consumer.assign([])

    def _begin_pending(self) -> None:
        if not self._pending or time.monotonic() < self._pending_until:
            return
        keys, self._pending = self._pending, []
        try:
            self._begin(keys)
        except KafkaException as error:  # the client does not know the partition yet, or no broker answers
            self._pending, self._pending_until = keys, time.monotonic() + _AGAIN_S
            self.say(error_of(error) or error)

    def _on_revoke(self, consumer: Consumer, keys: list[TopicPartition]) -> None:
        moved = {(key.topic, key.partition) for key in keys}
        begun = [key for key in keys if f"{key.topic}/{key.partition}" in self.partitions]
        self._pending = [key for key in self._pending if (key.topic, key.partition) not in moved]
        if self._is_cooperative:
            consumer.incremental_unassign(begun)
        else:
            consumer.unassign()
        for key in begun:
            gone = self._given_up[f"{key.topic}/{key.partition}"] = self.partitions[f"{key.topic}/{key.partition}"]
            self._starts.left[gone.name] = (gone.begun if gone.committed is None else gone.committed, gone.next)
        self._forget(keys)

    def _on_lost(self, consumer: Consumer, keys: list[TopicPartition]) -> None:
        _log.warning("%s: lost %d partitions to other members of its group", self._where, len(keys))
        self._on_revoke(consumer, keys)

    def _begin(self, keys: Sequence[TopicPartition]) -> None:
        offsets = self._starts.begin(self._consumer, keys)
        begun = []
        for key in keys:
            name = f"{key.topic}/{key.partition}"
            made = Partition(
                topic=key.topic, number=key.partition, channel=self._meant.channel(key.topic), next=offsets[name]
            )
            made.is_broken = self._assigned_once and name not in self._starts.continued
            if self._until_end:
                made.stop = self._consumer.get_watermark_offsets(key, timeout=self._timeout_s)[1]
            begun.append(made)
        starting = [each.key(each.next) for each in begun]
        if self._is_cooperative or not self._group:
            self._consumer.incremental_assign(starting)
        else:
            self._consumer.assign(starting)
        self._assigned_once = True
        self.partitions.update((each.name, each) for each in begun)
        fresh = [each.key(each.next) for each in begun if each.name in self._starts.fresh]
        if self._group and fresh:  # a member that takes over before the first checkpoint begins there, too
            self._commits.send(self._consumer, fresh)
        if begun and self._paused:
            self._consumer.pause(starting)
        elif begun:
            self._consumer.resume(starting)

    def _forget(self, keys: Iterable[TopicPartition]) -> None:
        gone = {f"{key.topic}/{key.partition}" for key in keys}
        for name in gone:
            self.partitions.pop(name, None)
        self._waiting = deque(each for each in self._waiting if f"{each.topic()}/{each.partition()}" not in gone)

    def _follow(
        self, meant: Topics, existing: Mapping[str, int], ids: Mapping[str, str], *, first: bool = False
    ) -> None:
        """Read the topics that are meant and exist, from their beginning if they were made again; leave others."""
        self._meant = meant
        chosen = meant.choose(existing)
        for topic, known in list(self._known_ids.items()):
            if topic not in existing or ids.get(topic, known) != known:
                del self._known_ids[topic]
                self._starts.forget(topic)
                self._lose(topic)
                if topic in existing:
                    self._begin_again(topic)
        self._given_up.clear()
        self._known_ids.update(ids)
        if self._group:
            if chosen != self._subscribed or first:
                self._subscribed = chosen
                self._subscribe()
            return
        wanted = {f"{topic}/{number}" for topic in chosen for number in range(existing[topic])}
        gone = [each.key() for name, each in self.partitions.items() if name not in wanted]
        if gone:
            self._consumer.incremental_unassign(gone)
            self._forget(gone)
        fresh = [
            TopicPartition(topic, number)
            for topic in chosen
            for number in range(existing[topic])
            if f"{topic}/{number}" not in self.partitions
        ]
        if fresh or first:
            self._begin(fresh)

    def _lose(self, topic: str) -> None:
        """Count what a topic that was deleted still held for this consumer when it was last looked at."""
        for each in [*self._given_up.values(), *self.partitions.values()]:
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

    def _begin_again(self, topic: str) -> None:
        """Read a topic that was made again from its beginning: offsets of the old one say nothing of it."""
        _log.warning("%s: topic %r was made again; it is read from its beginning", self._where, topic)
        for each in [each for each in self.partitions.values() if each.topic == topic]:
            low, high = self._consumer.get_watermark_offsets(each.key(), timeout=self._timeout_s)
            self.move(each, low)
            each.begun, each.committed, each.high, each.sure_high = low, None, high, high
            if self._until_end:
                each.stop = high

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            self._subscribed or list(self._meant.names or ("penstock-none",)),
            on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost,
        )  # fmt: skip

    # The thread.

    def _keep(self) -> None:
        while not self._closing.wait(min(_IDLE_S / 2, self._refresh_s)):
            try:
                if time.monotonic() - self._taken_at > _IDLE_S:
                    self._poll()
                if time.monotonic() - self._refreshed_at > self._refresh_s:
                    self._refresh()
            except Exception as error:  # whatever the client raises is the next read's to tell
                self._failure = (
                    error if isinstance(error, SourceError) else source_error(self._where, error, doing="poll")
                )

    def _poll(self) -> None:
        """Poll in the stead of `read`, with all partitions paused."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if not self._paused:
                self._paused = True
                self._consumer.pause([each.key() for each in self.partitions.values()])
            self._follow_found()
            self._begin_pending()
            message = self._consumer.poll(0)
            if message is not None:
                self._waiting.append(message)
        finally:
            self._lock.release()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._consumer.resume([each.key() for each in self.partitions.values()])

    def _refresh(self) -> None:
        """List the topics; the next holder of the lock follows them, `take` or the thread."""
        self._refreshed_at = time.monotonic()
        with contextlib.suppress(KafkaException):  # no broker answers: it is asked again next time
            meant, existing = self._topics(), self._cluster.topics()
            if self._closing.is_set():
                return
            self._found = meant, existing, self._cluster.ids(meant.choose(existing))
            partitions = dict(self.partitions)
            ids = self._found[2]
            for name, end in self._cluster.ends([each.key() for each in partitions.values()]).items():
                partition = partitions[name]
                partition.high = max(partition.high, end)
                if ids.get(partition.topic) == self._known_ids.get(partition.topic):
                    partition.sure_high = end

    def _follow_found(self) -> None:
        found, self._found = self._found, None
        if found is not None:
            try:
                self._follow(*found)
            except KafkaException as error:  # the client does not know the partition yet: the next look is soon
                self.say(error_of(error))


def existing_topics(consumer: Consumer | AdminClient, timeout_s: float) -> dict[str, int]:
    """Return the cluster's topics and how many partitions each has. Raises KafkaException."""
    found = consumer.list_topics(timeout=timeout_s).topics
    return {name: len(topic.partitions) for name, topic in found.items() if topic.error is None}
