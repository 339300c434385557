"""Transactions: a producer whose records and source positions become visible together or not at all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import KafkaException

from penstock.codec import decode, encode_bytes
from penstock.errors import CannotConnectToStoreError, PenstockError, StoreError
from penstock.record import Record
from penstock_kafka_av.kafka.compacted import latest_by_key
from penstock_kafka_av.kafka.errors import error_of, text_of
from penstock_kafka_av.kafka.message import Messages
from penstock_kafka_av.kafka.new_topic import make_topic
from penstock_kafka_av.kafka.producing import Failed, Producing

POSITIONS_TOPIC: Final = "penstock-positions"
_ATTEMPTS: Final = 5


class Transactions(Producing):
    """A transactional producer. It keeps the records of a transaction until the commit, to repeat an aborted one.

    Args:
        where: Prefix of error messages.
        config: Configuration of the client.
        messages: Builds the message of a record.
        name: The transactional id; the broker fences off an older producer with the same id.
    """

    def __init__(self, where: str, config: dict[str, Any], messages: Messages, *, name: str) -> None:
        self._plain = dict(config)
        super().__init__(
            where, {"transaction.timeout.ms": 120_000, **config, "transactional.id": name}, messages
        )  # fmt: skip
        self._name = name
        self._records: list[Record] = []
        self._is_begun = False
        self._is_alone = False  # each record is sent by itself
        self._positions: Mapping[str, Any] = {}

    def open(self, timeout_s: float) -> None:
        """Fence off older producers, abort their open transactions, and read the kept positions.

        Raises:
            CannotConnectToStoreError: no broker answers, or transactions are not allowed.
        """
        super().open(timeout_s)
        try:
            self._producer.init_transactions(max(timeout_s, 30.0))
            make_topic(
                self._plain, POSITIONS_TOPIC, partitions=1, options={"cleanup.policy": "compact"}, timeout_s=timeout_s
            )
            servers = str(self._plain["bootstrap.servers"]).split(",")
            options = {name: value for name, value in self._plain.items() if name != "bootstrap.servers"}
            kept = latest_by_key(POSITIONS_TOPIC, servers, options, timeout_s=max(timeout_s, 30.0)).get(self._name)
        except (KafkaException, TimeoutError) as error:
            raise CannotConnectToStoreError(f"{self._where}: cannot begin transactions: {text_of(error)}") from error
        self._positions = {} if kept is None else dict(decode(kept).data)

    def write(self, records: Sequence[Record]) -> None:
        """Produce into the transaction. Raises StoreError that lists the records which are not in it."""
        fit: list[Record] = []
        unfit: list[tuple[Record, BaseException]] = []
        for record in records:
            try:
                self._messages.of(record)
                fit.append(record)
            except PenstockError as error:
                unfit.append((record, self._own_error(error)))
        try:
            unfit += self._added(fit)
        except StoreError:
            self._abort()
            raise
        except KafkaException as error:
            self._abort()
            raise self._fatal(error) from error
        if unfit:
            raise StoreError(
                f"{self._where}: {len(unfit)} of {len(records)} records not written; the first: {unfit[0][1]}",
                failed=unfit,
                retryable=any(getattr(error, "retryable", False) for _, error in unfit),
            )

    def sync(self) -> None:
        """Commit everything written, without new positions. Raises StoreError."""
        if self._records:
            self._commit(None)

    def sync_with(self, positions: Mapping[str, Any]) -> None:
        """Commit everything written, and these positions. Raises StoreError."""
        if self._records or dict(positions) != dict(self._positions):
            self._commit(dict(positions))

    def positions(self) -> Mapping[str, Any]:
        """Return the positions of the last commit."""
        return dict(self._positions)

    def _commit(self, positions: dict[str, Any] | None) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                self._begin()
                if positions is not None:
                    value = encode_bytes(Record(positions))
                    self._producer.produce(POSITIONS_TOPIC, value, self._name)
                    self._wait()
                self._producer.commit_transaction()
                break
            except (KafkaException, StoreError) as error:
                inner = error_of(error)
                if inner is not None and inner.fatal():
                    raise self._fatal(error) from error
                if inner is not None and inner.retriable() and not inner.txn_requires_abort():
                    time.sleep(0.1)
                self._abort()
                if attempt == _ATTEMPTS - 1:
                    raise StoreError(f"{self._where}: the transaction failed: {text_of(error)}") from error
        self._is_begun = self._is_alone = False
        self._records = []
        if positions is not None:
            self._positions = positions

    def _added(self, records: Sequence[Record]) -> Failed:
        """Send records in the transaction, and return those that failed. A failure aborts it; the others are kept."""
        failed: Failed = []
        if not self._is_alone:
            self._begin()
            failed = self._send(records)
            if len(self._batched) > 1:
                self._send_alone(failed)
                return self._added(records)
            if failed:
                self._abort()
            gone = {id(record) for record, _ in failed}
            self._records += [record for record in records if id(record) not in gone]
            return failed
        for record in records:
            for _ in range(_ATTEMPTS):  # others may fail with a transaction whose abort is not complete
                self._begin()
                refused = self._send([record])
                if not refused:
                    self._records.append(record)
                    break
                self._abort()
                if self._batched:
                    break
            failed += refused
        return failed

    def _begin(self) -> None:
        """Begin a transaction, unless one is open, with the aborted records before new ones."""
        if self._is_begun:
            return
        attempts = 0
        while True:
            self._producer.begin_transaction()
            self._is_begun = True
            if self._is_alone:
                failed = [each for record in self._records for each in self._send([record])]
            else:
                failed = self._send(self._records)
            if not failed:
                return
            attempts += 1
            if len(self._batched) > 1:
                self._send_alone(failed)
                continue
            self._abort()
            if not self._is_alone or attempts >= _ATTEMPTS:  # alone, one may fail for the abort of the last transaction
                break
        self._raise_if(failed, of=len(self._records))

    def _send_alone(self, failed: Failed) -> None:
        """Abort, since the broker refused a batch, and send records one by one until the next commit."""
        self._warn_of_batches(failed[0][1])
        self._abort()
        self._is_alone = True

    def _abort(self) -> None:
        if self._is_begun:
            with contextlib.suppress(KafkaException):
                self._producer.abort_transaction()
            self._is_begun = False
            self._failed = []  # those that the abort discarded

    def _fatal(self, error: BaseException) -> StoreError:
        return StoreError(
            f"{self._where}: {text_of(error)}; does another process use transactional={self._name!r}?", retryable=False
        )

    def close(self) -> None:
        """Commit the open transaction; abort it if that fails. Raises StoreError."""
        try:
            self.sync()
        finally:
            self._abort()
            del self._producer
