"""Producing: an open producer that tracks the delivery of each message."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from penstock.errors import CannotConnectToStoreError, PenstockError, StoreError
from penstock.record import Record
from penstock_kafka_av.kafka.client_log import ClientLog
from penstock_kafka_av.kafka.errors import HOPELESS, config_error, error_of, text_of
from penstock_kafka_av.kafka.message import Messages

_log = logging.getLogger("penstock.kafka")
_POLL_S: Final = 0.05
_REFUSED: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_RECORD,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._INVALID_ARG,
        *HOPELESS,
    }
)
"""Errors of a message that a retry does not resolve."""

Failed = list[tuple[Record, BaseException]]


class Producing:
    """An idempotent producer."""

    def __init__(self, where: str, config: dict[str, Any], messages: Messages) -> None:
        self._where = where
        self._messages = messages
        self._errors: list[KafkaError] = []
        self._config = {
            "linger.ms": 5,
            "partitioner": "murmur2_random",  # like Java's; librdkafka's default spreads the empty key over partitions
            "topic.metadata.propagation.max.ms": 5000,
            "log.connection.close": False,
            **config,
            "enable.idempotence": True,
            "error_cb": self._note_error,
        }
        self._producer = self._made()
        self._failed: Failed = []
        self._is_broken = False

    def _made(self) -> Producer:
        try:
            return Producer(self._config, logger=ClientLog())
        except (KafkaException, TypeError, ValueError) as error:
            raise config_error(self._where, error) from error

    def open(self, timeout_s: float) -> None:
        """Connect to the brokers. Raises CannotConnectToStoreError if none answers."""
        try:
            self._producer.list_topics(timeout=timeout_s)
        except KafkaException as error:
            self._producer.poll(0)  # calls error_cb with the cause
            known = next((each for each in self._errors if each.code() != KafkaError._ALL_BROKERS_DOWN), error)
            raise CannotConnectToStoreError(f"{self._where}: cannot connect: {text_of(known)}") from error
        self._errors.clear()

    def write(self, records: Sequence[Record]) -> None:
        """Produce, and wait until each record is acknowledged. Raises StoreError that lists the failed records."""
        if self._is_broken:
            self._producer, self._is_broken = self._made(), False
        unfit: Failed = []
        for record in records:
            try:
                self._produce(record)
            except (PenstockError, KafkaException) as error:
                unfit.append((record, self._own_error(error)))
        self._wait()
        failed, self._failed = unfit + self._failed, []
        if failed:
            raise StoreError(
                f"{self._where}: {len(failed)} of {len(records)} records not written; the first: {failed[0][1]}",
                failed=failed,
                retryable=any(getattr(error, "retryable", False) for _, error in failed),
            ) from failed[0][1]

    def _produce(self, record: Record) -> None:
        message = self._messages.of(record)
        delivered = functools.partial(self._delivered, record)
        while True:
            try:
                self._producer.produce(**message, on_delivery=delivered)
                return
            except BufferError:  # the client's queue is full
                self._producer.poll(_POLL_S)

    def _wait(self) -> None:
        while self._producer.flush(_POLL_S):
            pass

    def _delivered(self, record: Record, error: KafkaError | None, _: Any) -> None:
        if error is not None:
            self._is_broken = self._is_broken or error.fatal()
            self._failed.append((record, self._own_error(error)))

    def _own_error(self, error: Any) -> BaseException:
        inner = error_of(error) if isinstance(error, BaseException) else error
        if not isinstance(inner, KafkaError):
            return error if isinstance(error, StoreError) else StoreError(str(error), retryable=False)
        remedy = ""
        if inner.code() in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART):
            remedy = "; create the topic, or enable auto.create.topics on the broker"
        elif inner.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            remedy = "; raise the option 'message.max.bytes' and the topic's 'max.message.bytes'"
        return StoreError(f"{text_of(inner)}{remedy}", retryable=inner.code() not in _REFUSED)

    def _note_error(self, error: KafkaError) -> None:
        self._errors = [*self._errors[-10:], error]
        _log.info("%s: %s", self._where, text_of(error))

    def sync(self) -> None:
        """Return at once: `write` returned after the broker acknowledged everything."""

    def close(self) -> None:
        """Wait for messages in flight, and close the client."""
        self._wait()
        del self._producer
