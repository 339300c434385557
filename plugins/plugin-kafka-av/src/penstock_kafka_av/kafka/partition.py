"""Partition: the state of a consumer in one of its partitions."""

from __future__ import annotations

import attrs
from confluent_kafka import OFFSET_INVALID, TopicPartition


@attrs.define(kw_only=True)
class Partition:
    """One assigned partition.

    Attributes:
        topic: Its topic.
        number: Its number within the topic.
        channel: The channel of its records.
        next: The offset after the last message that was returned.
        begun: The offset where reading began; offsets before it are never committed.
        committed: The offset committed last, or None.
        stop: With `until_end`, the end offset at the time of assignment.
        is_at_end: Whether the broker has reported the end of the partition.
        is_broken: Whether the next record does not continue the last one.
        high: The end offset at the broker when the last message arrived; -1 before that.
        sure_high: The end offset when the topic's id was last verified; -1 before that.
        last_ms: Timestamp of the last message returned that had one, in milliseconds since 1970; 0 before that.
        name: "topic/partition".
    """

    topic: str
    number: int
    channel: str
    next: int
    begun: int = attrs.field(default=attrs.Factory(lambda self: self.next, takes_self=True))
    committed: int | None = None
    stop: int = 2**63
    is_at_end: bool = False
    is_broken: bool = False
    last_ms: int = 0
    high: int = -1
    sure_high: int = -1
    name: str = attrs.field(
        init=False, default=attrs.Factory(lambda self: f"{self.topic}/{self.number}", takes_self=True)
    )

    def key(self, offset: int = OFFSET_INVALID) -> TopicPartition:
        """Return it as the client's TopicPartition."""
        return TopicPartition(self.topic, self.number, offset)
