"""Commits: the commits of a consumer that are on their way, and what became of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from penstock_kafka_av.kafka.errors import MOVED, source_error, text_of
from penstock_kafka_av.kafka.partition import Partition

_log = logging.getLogger("penstock.kafka")


class Commits:
    """Send commits and take their answers, so that nobody waits longer than he wants for brokers that do not answer.

    The client's own waiting commit cannot be interrupted for a minute, and a source that is asked to stop would not.

    Attributes:
        unanswered: How many were sent and not answered yet.
    """

    def __init__(self, where: str) -> None:
        self.unanswered = 0
        self._where = where
        self._failed: KafkaError | None = None
        self._done: dict[str, int] = {}

    def send(self, consumer: Consumer, offsets: Sequence[TopicPartition]) -> None:
        """Commit these offsets. Raises KafkaException if that cannot be sent."""
        consumer.commit(offsets=list(offsets), asynchronous=True)
        self.unanswered += 1

    def answered(self, error: KafkaError | None, offsets: Sequence[TopicPartition]) -> None:
        """Take an answer: the client calls this from within poll, consume and close."""
        self.unanswered = max(0, self.unanswered - 1)
        for each in offsets:
            refused: Any = error if error is not None else each.error
            if refused is None:
                self._done[f"{each.topic}/{each.partition}"] = each.offset
            elif refused.code() in MOVED:
                _log.info("%s: not committed, the partitions have moved: %s", self._where, text_of(refused))
            else:
                self._failed = refused

    def heed(self, partitions: Mapping[str, Partition]) -> None:
        """Note what was committed. Raises SourceError if a commit failed since the last call."""
        done, self._done = self._done, {}
        for name, offset in done.items():
            if name in partitions:
                partitions[name].committed = offset
        failed, self._failed = self._failed, None
        if failed is not None:
            raise source_error(self._where, failed, doing="commit")
