"""Consuming: an open consumer with its partitions, and a thread that keeps it in its group."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from penstock.errors import SourceError
from penstock_kafka_av.kafka.assigned import Assigned
from penstock_kafka_av.kafka.cluster import Cluster
from penstock_kafka_av.kafka.commits import Commits
from penstock_kafka_av.kafka.errors import HOPELESS, error_of, is_unsupported, source_error
from penstock_kafka_av.kafka.partition import Partition
from penstock_kafka_av.kafka.start import Starts
from penstock_kafka_av.kafka.topics import Topics

_log = logging.getLogger("penstock.kafka")
_IDLE_S: Final = 0.5
"""Seconds without a call of `take` after which the thread pauses the partitions and polls."""
_AT_ONCE: Final = 500
"""Maximum number of messages requested from the client in one call."""
_LOOK_S: Final = 0.05
"""Seconds to block in one call while messages of other partitions wait for a lagging one."""
_ANSWER_S: Final = 0.005
"""Seconds to block in one poll while waiting for the answer to a commit."""


class Consuming:
    """An open consumer, its assigned partitions, and its offset in each.

    One thread calls `take`. When downstream is slow and `take` is not called, a background thread pauses all partitions
    and polls instead, so the consumer stays in its group however long a record takes. The same thread discovers new
    topics and partitions, and notices deleted ones.

    Attributes:
        partitions: The partitions assigned now, by "topic/partition".
        lost: Messages that were deleted before they were read, by channel.
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
        report: Callable[[Any], None],
        until_end: bool,
        in_step: bool,
        refresh_s: float,
        timeout_s: float,
    ) -> None:
        self._assigned = Assigned(
            consumer, where=where, starts=starts, commits=commits, channel=lambda topic: self._wanted.channel(topic),
            report=report, group=group, is_cooperative=is_cooperative, until_end=until_end, in_step=in_step,
            timeout_s=timeout_s,
        )  # fmt: skip
        self.partitions, self.lost = self._assigned.partitions, self._assigned.lost
        self._is_in_step = in_step
        self._where = where
        self._topics = topics
        self._cluster = cluster
        self._commits = commits
        self._group = group
        self._classic = classic
        self._refresh_s = refresh_s
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._subscribed: list[str] = []
        self._failure: SourceError | None = None
        self._report = report
        self._taken_at = time.monotonic()
        self._refreshed_at = time.monotonic()
        self._wanted: Topics = topics()
        self._known_ids: dict[str, str] = {}
        self._found: tuple[Topics, Mapping[str, int], Mapping[str, str]] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"penstock {where}", daemon=True)

    def start(self, existing: Mapping[str, int]) -> None:
        """Subscribe to the topics that exist, and start the background thread. Raises SourceError."""
        self._assigned.starts.known = {
            f"{topic}/{number}" for topic, count in existing.items() for number in range(count)
        }
        try:
            ids = self._cluster.ids(self._wanted.choose(existing))
            with self._lock:
                self._follow(self._wanted, existing, ids, first=True)
        except KafkaException as error:
            raise source_error(self._where, error, doing="begin") from error
        self._thread.start()

    def take(self, most: int, timeout_s: float) -> list[tuple[Partition, Message]]:
        """Return up to `most` messages of the assigned partitions, in order within each. Raises SourceError.

        It waits up to `timeout_s` for the first message. The end of one partition does not shorten this time; the end
        of all of them does.
        """
        until = time.monotonic() + timeout_s
        with self._lock:
            self._assigned.resume()
            while True:
                self._taken_at = time.monotonic()
                self._follow_found()
                self._assigned.begin_pending()
                given = self._sorted(self._received(most, min(max(0.0, until - self._taken_at), _IDLE_S)))
                self._taken_at = time.monotonic()
                if given or self._taken_at >= until or self.is_at_end():
                    break
            for partition in {id(each): each for each, _ in given}.values():
                self.high(partition)
            return given

    def _received(self, most: int, timeout_s: float) -> list[Message]:
        try:
            found = self._in_step(most, timeout_s) if self._is_in_step else self._as_it_comes(most, timeout_s)
        except KafkaException as error:
            raise source_error(self._where, error, doing="read") from error
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return found

    def _as_it_comes(self, most: int, timeout_s: float) -> list[Message]:
        found = self._assigned.waiting.take(most)
        if len(found) < most:
            found += self._assigned.consumer.consume(most - len(found), 0)
        if not found and most > 0 and timeout_s > 0:
            found = self._assigned.consumer.consume(1, timeout_s)
            if found and most > 1:
                found += self._assigned.consumer.consume(most - 1, 0)
        return found

    def _in_step(self, most: int, timeout_s: float) -> list[Message]:
        """Return the earliest messages; others wait in the backlog, and with paused partitions at the broker."""
        waiting, until = self._assigned.waiting, time.monotonic() + timeout_s
        found: list[Message] = []
        while most > 0 and not found:
            came = self._assigned.consumer.consume(_AT_ONCE, 0)
            waiting.add(came)
            self._assigned.hold_back()
            found = waiting.take(most)
            left_s = until - time.monotonic()
            if not found and not came and left_s <= 0:
                break
            if not found and not came:
                waiting.add(self._assigned.consumer.consume(1, min(left_s, _LOOK_S) if len(waiting) else left_s))
        self._assigned.hold_back()
        return found

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
            self._assigned.out_of_range(partition)
        elif self._classic is not None and is_unsupported(error):
            self._fall_back(self._classic)
        elif code == KafkaError._FATAL or error.fatal() or code in HOPELESS:
            raise source_error(self._where, error, doing="read")
        else:
            self._report(error)

    def _fall_back(self, classic: Callable[[], Consumer]) -> None:
        """Rejoin the group with the classic protocol, after an attempt showed that the brokers lack the new one."""
        _log.info(
            "%s: the brokers do not support the group protocol of KIP-848; using the classic protocol", self._where
        )
        self._classic = None
        consumer, self._assigned.consumer = self._assigned.consumer, classic()
        consumer.close()
        self._assigned.forget([each.key() for each in self.partitions.values()])
        self._assigned.pending = []
        self._subscribe()

    def move(self, partition: Partition, offset: int) -> None:
        """Continue at this offset, and mark the next record as a discontinuity."""
        self._assigned.move(partition, offset)

    def is_at_end(self) -> bool:
        """Return whether every assigned partition has been read to its end."""
        with self._lock:
            return self._assigned.has_begun and not self._assigned.waiting and not self._assigned.pending and all(
                each.is_at_end or each.next >= each.stop for each in self.partitions.values()
            )  # fmt: skip

    def high(self, partition: Partition) -> int:
        """Return the client's cached high watermark of a partition (last offset + 1); -1 if it has none.

        Only the thread that reads calls this: beside a concurrent `consume`, the client's call can block while it holds
        the interpreter lock.
        """
        with self._lock:
            partition.high = int(self._assigned.consumer.get_watermark_offsets(partition.key(), cached=True)[1])
        return partition.high

    def commit(self, position: Mapping[str, int]) -> None:
        """Commit the offsets of those partitions that this consumer still owns. Raises SourceError."""
        if not self._group:
            return
        with self._lock:
            due = []
            for name, offset in position.items():
                partition = self.partitions.get(name)  # the ids added by `to_keep` have none
                if (
                    partition is not None
                    and partition.begun <= offset <= partition.next
                    and offset != partition.committed
                ):
                    due.append((partition, offset))
            if due:
                self._send_commit([partition.key(offset) for partition, offset in due])

    def _send_commit(self, offsets: list[TopicPartition]) -> None:
        """Commit, and wait up to `timeout_s` for the answer; a later answer is handled by a later poll."""
        waits = self._commits.unanswered == 0
        try:
            self._commits.send(self._assigned.consumer, offsets)
            until = time.monotonic() + (self._timeout_s if waits else 0.0)
            while self._commits.unanswered and time.monotonic() < until:
                message = self._assigned.consumer.poll(_ANSWER_S)
                if message is not None:
                    self._assigned.waiting.add((message,))
        except KafkaException as error:
            raise source_error(self._where, error, doing="commit") from error
        self._commits.apply_to(self.partitions)

    def to_keep(self, position: Mapping[str, int]) -> dict[str, Any]:
        """Return a position with the ids of its topics, by "topic/id"."""
        ids = dict(self._known_ids)
        topics = {name.rpartition("/")[0] for name in position}
        return {**position, **{f"{topic}/id": ids[topic] for topic in sorted(topics) if topic in ids}}

    def seek(self, position: Mapping[str, Any]) -> None:
        """Continue at these offsets, at once or as soon as the partition is assigned, unless the topic was recreated.

        Args:
            position: Offsets by "topic/partition", and optionally the ids of the topics by "topic/id".
        """
        with self._lock:
            gone = set()
            for topic in {name.rpartition("/")[0] for name in position}:
                kept = position.get(f"{topic}/id")
                if kept is not None and self._known_ids.get(topic, kept) != kept:
                    gone.add(topic)
                    _log.warning(
                        "%s: topic %r was recreated since its position was kept; ignoring it", self._where, topic
                    )
            for name, offset in position.items():
                topic, _, number = name.rpartition("/")
                if topic in gone or number == "id":
                    continue
                partition = self.partitions.get(name)
                if partition is None:
                    self._assigned.starts.sought[name] = offset
                elif partition.next != offset:
                    self._assigned.move(partition, offset)
                    partition.begun = min(partition.begun, offset)

    def close(self) -> None:
        """Leave the group, and end the thread. Waits at most `timeout_s` for brokers that do not answer."""
        self._closing.set()
        self._assigned.is_closing = True
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            leaving = threading.Thread(
                target=self._assigned.consumer.close, name=f"penstock {self._where} leaves", daemon=True
            )
            leaving.start()
            leaving.join(self._timeout_s)
            if leaving.is_alive():  # the client's close has no timeout; the session timeout then removes this member
                _log.warning("%s: the brokers do not answer; closed without leaving the group", self._where)
            self._cluster.close()
            self.partitions.clear()
            self._assigned.waiting.clear()

    # Changes of topics and partitions.

    def _follow(
        self, meant: Topics, existing: Mapping[str, int], ids: Mapping[str, str], *, first: bool = False
    ) -> None:
        """Read the configured topics that exist, recreated ones from their beginning, and stop reading all others."""
        self._wanted = meant
        chosen = meant.choose(existing)
        for topic, known in list(self._known_ids.items()):
            if topic not in existing or ids.get(topic, known) != known:
                del self._known_ids[topic]
                self._assigned.starts.forget(topic)
                self._assigned.lose(topic)
                if topic in existing:
                    self._assigned.begin_again(topic)
        self._assigned.given_up.clear()
        self._known_ids.update(ids)
        if self._group:
            if chosen != self._subscribed or first:
                self._subscribed = chosen
                self._subscribe()
            return
        wanted = {f"{topic}/{number}" for topic in chosen for number in range(existing[topic])}
        gone = [each.key() for name, each in self.partitions.items() if name not in wanted]
        if gone:
            self._assigned.consumer.incremental_unassign(gone)
            self._assigned.forget(gone)
        fresh = [
            TopicPartition(topic, number)
            for topic in chosen
            for number in range(existing[topic])
            if f"{topic}/{number}" not in self.partitions
        ]
        if fresh or first:
            self._assigned.begin(fresh)

    def _subscribe(self) -> None:
        self._assigned.consumer.subscribe(
            self._subscribed or list(self._wanted.names or ("penstock-none",)),
            on_assign=self._assigned.on_assign, on_revoke=self._assigned.on_revoke,
            on_lost=self._assigned.on_lost,
        )  # fmt: skip

    # The background thread.

    def _run(self) -> None:
        while not self._closing.wait(min(_IDLE_S / 2, self._refresh_s)):
            try:
                if time.monotonic() - self._taken_at > _IDLE_S:
                    self._poll()
                if time.monotonic() - self._refreshed_at > self._refresh_s:
                    self._refresh()
            except Exception as error:  # the next call of `take` raises it
                self._failure = (
                    error if isinstance(error, SourceError) else source_error(self._where, error, doing="poll")
                )

    def _poll(self) -> None:
        """Poll in place of `take`, with all partitions paused."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._assigned.pause()
            self._follow_found()
            self._assigned.begin_pending()
            message = self._assigned.consumer.poll(0)
            if message is not None:
                self._assigned.waiting.add((message,))
        finally:
            self._lock.release()

    def _refresh(self) -> None:
        """List the topics; `_follow_found` applies the result under the lock, in `take` or in the thread."""
        self._refreshed_at = time.monotonic()
        with contextlib.suppress(KafkaException):  # no broker answers: the next refresh tries again
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
            except KafkaException as error:  # the client does not know the partition yet: the next refresh tries again
                self._report(error_of(error))
