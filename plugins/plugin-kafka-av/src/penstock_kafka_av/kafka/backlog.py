"""Backlog: messages returned by the client and not yet by the source."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence

from confluent_kafka import Message

from penstock_kafka_av.kafka.partition import Partition


class Backlog:
    """Messages in the order in which the client returned them. Callers hold the lock of `Consuming`."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, messages: Iterable[Message]) -> None:
        """Append messages."""
        self._messages.extend(messages)

    def take(self, most: int) -> list[Message]:
        """Return up to `most` of the oldest messages."""
        messages = self._messages
        return [messages.popleft() for _ in range(min(most, len(messages)))]

    def is_waiting(self) -> bool:
        """Return whether the next message must wait for another one, which is still at the broker."""
        return False

    def to_hold_back(self) -> tuple[Sequence[Partition], Sequence[Partition]]:
        """Return the partitions to pause, since they are too far ahead, and those to resume."""
        return (), ()

    def is_ahead(self, name: str) -> bool:
        """Return whether this partition is held back."""
        return False

    def drop(self, names: Collection[str]) -> None:
        """Drop the messages of these partitions: they are read again, here or by another member."""
        kept = [each for each in self._messages if f"{each.topic()}/{each.partition()}" not in names]
        self._messages.clear()
        self._messages.extend(kept)

    def clear(self) -> None:
        """Drop all messages."""
        self._messages.clear()
