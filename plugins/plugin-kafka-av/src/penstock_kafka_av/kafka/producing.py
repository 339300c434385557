"""Producing: an open producer that tracks the delivery of each message."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from penstock.errors import CannotConnectToStoreError, PenstockError, StoreError
from penstock.record import Record
from penstock_kafka_av.kafka.client_log import ClientLog
from penstock_kafka_av.kafka.errors import HOPELESS, config_error, error_of, text_of
from penstock_kafka_av.kafka.message import Messages

_BY_KEY: Final = -1
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

_OF_BATCHES: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_RECORD,
        KafkaError._INVALID_DIFFERENT_RECORD,
    }
)
"""Errors that all records of a batch get for one of them, or for their size together."""
_REMEDIES: Final = {
    KafkaError._UNKNOWN_TOPIC: "create the topic, or enable auto.create.topics on the broker",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic, or enable auto.create.topics on the broker",
    KafkaError.TOPIC_EXCEPTION: "use up to 249 letters, digits, '.', '_' and '-'",
    KafkaError._UNKNOWN_PARTITION: "choose one that the topic has, or add partitions to the topic",
    KafkaError.MSG_SIZE_TOO_LARGE: "raise the option 'message.max.bytes' and the topic's 'max.message.bytes'",
    KafkaError.INVALID_TIMESTAMP: "correct the record's time_ns, or the topic's message.timestamp.…max.ms",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow this user to write to the topic",
}

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
        self._batched: list[Record] = []  # those of the last list that failed with their batches
        self._has_warned = False

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
        """Produce, and wait until each record is acknowledged. Raises StoreError that lists the failed records.

        The brokers refuse whole batches: if one is too large, or one of its records is invalid, its records are sent
        again one by one, behind later ones of the list.
        """
        failed = self._send(records)
        batched = {id(record): record for record in self._batched}
        if len(batched) > 1:
            self._warn_of_batches(next(error for record, error in failed if id(record) in batched))
            failed = [each for each in failed if id(each[0]) not in batched]
            failed += [each for record in batched.values() for each in self._send([record])]
        self._raise_if(failed, of=len(records))

    def _warn_of_batches(self, error: BaseException) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "%s: the broker refused a batch: %s. Its records are sent one by one, which is slow; if batches are "
                "too large for the topic, set the option 'batch.size' below its 'max.message.bytes'",
                self._where, error,
            )  # fmt: skip

    def _send(self, records: Sequence[Record]) -> Failed:
        """Produce, wait until each record is acknowledged, and return those that failed."""
        if self._is_broken:
            self._producer, self._is_broken = self._made(), False
        self._batched = []
        unfit: Failed = []
        for record in records:
            try:
                self._produce(record)
            except PenstockError as error:
                unfit.append((record, self._own_error(error)))
        self._wait()
        failed, self._failed = unfit + self._failed, []
        return failed

    def _raise_if(self, failed: Failed, *, of: int) -> None:
        if failed:
            raise StoreError(
                f"{self._where}: {len(failed)} of {of} records not written; the first: {failed[0][1]}",
                failed=failed,
                retryable=any(getattr(error, "retryable", False) for _, error in failed),
            ) from failed[0][1]

    def _produce(self, record: Record) -> None:
        message = self._messages.of(record)
        delivered = functools.partial(self._delivered, record)
        while True:
            is_empty = not len(self._producer)
            try:
                self._producer.produce(**message, on_delivery=delivered)
                return
            except BufferError:  # the client's queue is full
                if is_empty:
                    raise StoreError(
                        f"the message of {len(message['value'] or b'')} bytes is larger than the client's queue; raise "
                        "the option 'queue.buffering.max.kbytes'",
                        retryable=False,
                    ) from None
                self._producer.poll(_POLL_S)
            except KafkaException as error:
                raise _refusal(error_of(error), message["topic"], message.get("partition")) from error
            except (ValueError, TypeError, OverflowError) as error:  # a value that the client's interface refuses
                place = {name: message[name] for name in ("topic", "partition", "timestamp") if name in message}
                raise StoreError(f"the client refuses {place}: {error}", retryable=False) from error

    def _wait(self) -> None:
        while self._producer.flush(_POLL_S):
            pass

    def _delivered(self, record: Record, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._is_broken = self._is_broken or error.fatal()
            self._failed.append((record, _refusal(error, message.topic(), message.partition())))
            if error.code() in _OF_BATCHES:
                self._batched.append(record)

    def _own_error(self, error: BaseException) -> BaseException:
        return error if isinstance(error, StoreError) else StoreError(str(error), retryable=False)

    def _note_error(self, error: KafkaError) -> None:
        self._errors = [*self._errors[-10:], error]
        _log.info("%s: %s", self._where, text_of(error))

    def sync(self) -> None:
        """Return at once: `write` returned after the broker acknowledged everything."""

    def close(self) -> None:
        """Wait for messages in flight, and close the client."""
        self._wait()
        del self._producer


def _refusal(error: KafkaError | None, topic: Any, partition: Any) -> StoreError:
    """Return the error of a message that was not produced: with its place, and what helps."""
    assert error is not None
    place = f"topic {topic!r:.100}" + ("" if partition in (None, _BY_KEY) else f", partition {partition!r:.20}")
    remedy = _REMEDIES.get(error.code())
    text = f"{place}: {text_of(error)}" + ("" if remedy is None else f"; {remedy}")
    return StoreError(text, retryable=error.code() not in _REFUSED)
