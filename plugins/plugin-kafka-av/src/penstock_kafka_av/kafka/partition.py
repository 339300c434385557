"""Partition: where a consumer stands in one of its partitions."""

from __future__ import annotations

import attrs
from confluent_kafka import OFFSET_INVALID, TopicPartition


@attrs.define(kw_only=True)
class Partition:
    """One partition that is assigned.

    Attributes:
        topic: Its topic.
        number: Its number within the topic.
        channel: What its records have as channel.
        next: The offset behind the last message that was given.
        begun: Where it began; nothing before is committed.
        committed: What was committed last, or None.
        stop: With `until_end`, the offset that was its end when it began.
        is_at_end: The broker has said that nothing more is there.
        is_broken: The next record does not continue the last one.
        high: The offset behind the last message at the broker, when a message last came; -1 if none did.
        sure_high: The same when the topic was last known to be the one that it began with.
        last_ms: When the last message given was made, in milliseconds since 1970.
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
        """Return what the client calls it."""
        return TopicPartition(self.topic, self.number, offset)
