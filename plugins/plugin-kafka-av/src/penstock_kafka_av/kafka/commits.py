"""Commits: the pending commits of a consumer, and their results."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from penstock_kafka_av.kafka.errors import MOVED, source_error, text_of
from penstock_kafka_av.kafka.partition import Partition

_log = logging.getLogger("penstock.kafka")


class Commits:
    """Send commits without blocking, and collect their answers, so that the caller chooses how long to wait.

    The client's synchronous commit blocks uninterruptibly for up to a minute, which would delay the stop of a source.

    Attributes:
        unanswered: Number of commits sent and not answered yet.
    """

    def __init__(self, where: str) -> None:
        self.unanswered = 0
        self._where = where
        self._failed: KafkaError | None = None
        self._done: dict[str, int] = {}

    def send(self, consumer: Consumer, offsets: Sequence[TopicPartition]) -> None:
        """Send a commit of these offsets. Raises KafkaException if it cannot be sent."""
        consumer.commit(offsets=list(offsets), asynchronous=True)
        self.unanswered += 1

    def answered(self, error: KafkaError | None, offsets: Sequence[TopicPartition]) -> None:
        """Note an answer. The client calls this from within `poll`, `consume` and `close`."""
        self.unanswered = max(0, self.unanswered - 1)
        for each in offsets:
            refused: Any = error if error is not None else each.error
            if refused is None:
                self._done[f"{each.topic}/{each.partition}"] = each.offset
            elif refused.code() in MOVED:
                _log.info("%s: not committed, the partitions have moved: %s", self._where, text_of(refused))
            else:
                self._failed = refused

    def apply_to(self, partitions: Mapping[str, Partition]) -> None:
        """Record the committed offsets in the partitions. Raises SourceError if a commit failed since the last call."""
        done, self._done = self._done, {}
        for name, offset in done.items():
            if name in partitions:
                partitions[name].committed = offset
        failed, self._failed = self._failed, None
        if failed is not None:
            raise source_error(self._where, failed, doing="commit")
