"""InStep: reads lagging partitions in the order of their messages' timestamps."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import attrs
from confluent_kafka import Message

from penstock_kafka_av.kafka.backlog import Backlog
from penstock_kafka_av.kafka.partition import Partition

ALL_BYTES: Final = 64 << 20
"""Maximum size of the waiting messages of all partitions together, in bytes."""
_LEAST_BYTES: Final = 1 << 20
_PATIENCE_S: Final = 0.5
"""Seconds to wait for a partition that has messages at the broker but returns none."""
_LIVE_MS: Final = 2000
"""Milliseconds: a younger message is live, and does not wait for other partitions."""
_NOW: Final = -1


@attrs.define
class _Queue:
    """The waiting messages of one partition.

    Attributes:
        messages: The messages, the oldest first.
        size: Their bytes.
        empty_since: Monotonic time since when there are none here although the broker has more; None if that is not so.
    """

    messages: deque[Message] = attrs.field(factory=deque)
    size: int = 0
    empty_since: float | None = None


class InStep(Backlog):
    """Keep messages by partition, and return the earliest produced ones first.

    The others wait for a lagging partition without a message here, since its next one may be the earliest; half a
    second at most. Live messages never wait for a lagging partition, nor do messages without a timestamp.

    Args:
        partitions: The assigned partitions, by name.
        high: Returns the client's cached end offset of a partition.
    """

    def __init__(self, partitions: Mapping[str, Partition], high: Callable[[Partition], int]) -> None:
        super().__init__()
        self._partitions = partitions
        self._high = high
        self._queues: dict[str, _Queue] = {}
        self._others: deque[Message] = deque()  # errors without an assigned partition
        self._ahead: set[str] = set()

    def __len__(self) -> int:
        return len(self._others) + sum(len(queue.messages) for queue in self._queues.values())

    def add(self, messages: Iterable[Message]) -> None:
        """Append messages to the queues of their partitions."""
        for message in messages:
            name = f"{message.topic()}/{message.partition()}"
            if message.error() is not None and name not in self._partitions:
                self._others.append(message)
                continue
            queue = self._queues.get(name)
            if queue is None:
                queue = self._queues[name] = _Queue()
            queue.messages.append(message)
            queue.size += len(message)
            queue.empty_since = None

    def take(self, most: int) -> list[Message]:
        """Return up to `most` of the earliest messages that need not wait for another partition."""
        given = [self._others.popleft() for _ in range(min(most, len(self._others)))]
        live_ms = int(time.time() * 1000) - _LIVE_MS
        heads = [(_turn(queue.messages[0], live_ms), name) for name, queue in self._queues.items() if queue.messages]
        heapq.heapify(heads)
        is_waiting = self.is_waiting()
        while heads and len(given) < most:
            turn, name = heapq.heappop(heads)
            if is_waiting and turn != _NOW:
                break
            queue = self._queues[name]
            message = queue.messages.popleft()
            queue.size -= len(message)
            given.append(message)
            if queue.messages:
                heapq.heappush(heads, (_turn(queue.messages[0], live_ms), name))
            elif not is_waiting and message.error() is None:
                is_waiting = self._is_behind(name, (message.offset() or 0) + 1)
        return given

    def is_waiting(self) -> bool:
        """Return whether messages must wait for a lagging partition that has had none here for under half a second."""
        waiting = False
        for name, partition in self._partitions.items():
            queue = self._queues.get(name)
            if queue is None or not queue.messages:
                waiting = self._is_behind(name, partition.next) or waiting
        return waiting

    def _is_behind(self, name: str, following: int) -> bool:
        partition = self._partitions.get(name)
        if partition is None or 0 <= self._high(partition) <= following:  # below 0, the end is not known yet
            return False
        queue = self._queues.setdefault(name, _Queue())
        now = time.monotonic()
        if queue.empty_since is None:
            queue.empty_since = now
        return now - queue.empty_since < _PATIENCE_S

    def to_hold_back(self) -> tuple[Sequence[Partition], Sequence[Partition]]:
        """Return the partitions to pause, since they are too far ahead, and those to resume."""
        most = max(_LEAST_BYTES, ALL_BYTES // max(1, len(self._partitions)))
        stop, go = [], []
        for name, queue in self._queues.items():
            partition = self._partitions.get(name)
            if partition is None:
                continue
            if queue.size > most and name not in self._ahead:
                self._ahead.add(name)
                stop.append(partition)
            elif name in self._ahead and queue.size < most // 2:
                self._ahead.discard(name)
                go.append(partition)
        return stop, go

    def is_ahead(self, name: str) -> bool:
        """Return whether a partition is held back."""
        return name in self._ahead

    def drop(self, names: Collection[str]) -> None:
        """Drop the messages of these partitions."""
        for name in names:
            self._queues.pop(name, None)
            self._ahead.discard(name)

    def clear(self) -> None:
        """Drop all messages."""
        self._queues.clear()
        self._others.clear()
        self._ahead.clear()


def _turn(message: Message, live_ms: int) -> int:
    """Return the time of a message in milliseconds since 1970; _NOW if it has none, is live, or is an error."""
    if message.error() is not None:
        return _NOW
    kind, stamp_ms = message.timestamp()
    return stamp_ms if kind and 0 <= stamp_ms < live_ms else _NOW
