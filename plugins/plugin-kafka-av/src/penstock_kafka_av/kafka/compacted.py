"""latest_by_key: the current content of a compacted topic, in which a later message of a key replaces earlier ones."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from penstock_kafka_av.kafka.client_log import ClientLog
from penstock_kafka_av.kafka.options import client_config


def latest_by_key(
    topic: str, bootstrap_servers: Sequence[str], options: Mapping[str, Any], *, timeout_s: float = 10.0
) -> dict[str, bytes | None]:
    """Return the last value of each key of a topic; {} if the topic does not exist. Reads committed messages only.

    Raises:
        KafkaException: no broker answers, or the client is not authorized to read the topic.
        TimeoutError: the end of the topic was not reached in `timeout_s`.
    """
    own: dict[str, Any] = {
        "group.id": f"penstock-{uuid.uuid4()}",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    }
    consumer = Consumer({**client_config(bootstrap_servers, options), **own}, logger=ClientLog())
    try:
        found = consumer.list_topics(topic, timeout=timeout_s).topics[topic]
        if found.error is not None:
            return {}
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in found.partitions])
        values: dict[str, bytes | None] = {}
        open_ends = set(found.partitions)
        ends = time.monotonic() + timeout_s
        while open_ends:
            if time.monotonic() > ends:
                raise TimeoutError(f"the end of topic {topic!r} was not reached within {timeout_s} s")
            for message in consumer.consume(500, 0.1):
                error = message.error()
                if error is None:
                    key = message.key()
                    if key is not None:
                        values[key.decode("utf-8", "replace") if isinstance(key, bytes) else key] = message.value()
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_ends.discard(message.partition())
                elif error.fatal() or not error.retriable():
                    raise KafkaException(error)
        return values
    finally:
        consumer.close()
