"""New topics, for the stores that need one of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from penstock_kafka_av.kafka.client_log import ClientLog
from penstock_kafka_av.kafka.errors import error_of


def make_topic(
    client_config: Mapping[str, Any], name: str, *, partitions: int, options: Mapping[str, Any], timeout_s: float
) -> None:
    """Create a topic with these options unless it exists. Raises KafkaException."""
    client = AdminClient({**client_config, "log_level": 2}, logger=ClientLog())
    if name in client.list_topics(timeout=timeout_s).topics:
        return
    texts = {key: str(value) for key, value in options.items()}
    try:
        client.create_topics([NewTopic(name, partitions, config=texts)])[name].result(timeout_s)
    except KafkaException as error:
        inner = error_of(error)
        if inner is None or inner.code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process was faster
            raise
