"""Cluster: queries of a source to the brokers: topics, topic ids and partition ends."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicCollection, TopicPartition, admin
from confluent_kafka.admin import AdminClient

from penstock_kafka_av.kafka.client_log import ClientLog

_ADMIN: Any = admin  # OffsetSpec is missing from its type stubs


class Cluster:
    """Query the brokers over a separate connection, where no answer queues behind a pending fetch.

    Args:
        config: Configuration of the client.
        timeout_s: Seconds to wait for an answer.
    """

    def __init__(self, config: Mapping[str, Any], *, timeout_s: float) -> None:
        self._config = dict(config)
        self.timeout_s = timeout_s
        self._client: AdminClient | None = None

    def topics(self) -> dict[str, int]:
        """Return the topics with their numbers of partitions. Raises KafkaException."""
        return existing_topics(self._connected(), self.timeout_s)

    def may_have_new_groups(self) -> bool:
        """Return whether the brokers may support the group protocol of KIP-848; True if they cannot tell."""
        client = self._connected()
        try:
            broker = next(iter(client.list_topics(timeout=self.timeout_s).brokers))
            asked = client.describe_configs([_ADMIN.ConfigResource(_ADMIN.ResourceType.BROKER, str(broker))])
            [settings] = [each.result(self.timeout_s) for each in asked.values()]
        except KafkaException:
            return True
        known = settings.get("group.coordinator.rebalance.protocols")
        return known is not None and "consumer" in str(known.value).split(",")

    def is_group_empty(self, group: str) -> bool:
        """Return whether a group has no member; False if the brokers do not tell, or do not know the group."""
        try:
            asked = self._connected().describe_consumer_groups([group], request_timeout=self.timeout_s)
            state = asked[group].result(self.timeout_s).state
        except KafkaException:
            return False
        return state in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)

    def ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the id of each topic that the brokers describe; a recreated topic has a new id."""
        if not topics:
            return {}
        found = {}
        asked = self._connected().describe_topics(TopicCollection(list(topics)), request_timeout=self.timeout_s)
        for name, each in asked.items():
            with contextlib.suppress(KafkaException):  # deleted in the meantime, or not authorized
                found[name] = str(each.result(self.timeout_s).topic_id)
        return found

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[str, int]:
        """Return the end offset (last offset + 1) of each, by "topic/partition". Raises KafkaException."""
        if not partitions:
            return {}
        wanted = {TopicPartition(each.topic, each.partition): _ADMIN.OffsetSpec.latest() for each in partitions}
        asked = self._connected().list_offsets(wanted, request_timeout=self.timeout_s)
        return {f"{key.topic}/{key.partition}": int(each.result(self.timeout_s).offset) for key, each in asked.items()}

    def close(self) -> None:
        """Disconnect."""
        self._client = None

    def _connected(self) -> AdminClient:
        if self._client is None:
            self._client = AdminClient(self._config, logger=ClientLog())
        return self._client


def existing_topics(consumer: Consumer | AdminClient, timeout_s: float) -> dict[str, int]:
    """Return the cluster's topics with their numbers of partitions. Raises KafkaException."""
    found = consumer.list_topics(timeout=timeout_s).topics
    return {name: len(topic.partitions) for name, topic in found.items() if topic.error is None}
