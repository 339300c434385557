"""StoreStep: a store in a lane: failed writes are retried in order, and it is synced when a barrier passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.compose.resolve import ResolvedNode
from penstock.error_text import failed_records, is_a, is_retryable
from penstock.errors import RecordExistsError, RunAborted
from penstock.record import Record
from penstock.report.counters import Counters, count_channels
from penstock.run.context import RunContext
from penstock.run.steps.outage import Outage
from penstock.run.steps.placing import make_component
from penstock.run.steps.step import Step


class StoreStep(Step):
    """A store: write lists of records, and sync when a barrier passes."""

    def __init__(self, resolved: ResolvedNode, run: RunContext, counters: Counters | None = None) -> None:
        super().__init__(resolved, run, counters)
        self.store: Any = None
        self.outage = Outage(self.error_policy.retry.wait_max_s)
        self.synced = True
        self.ended = False

    def open(self) -> None:
        """Make and open the store."""
        self.store = make_component(self.resolved, self._run, self.counters)
        self.store.open()

    def run(self, records: Sequence[Record]) -> list[Record]:
        """Write records; bad ones are given up without their neighbours."""
        self.counters.records_in += len(records)
        if self.outage.is_on and not self.outage.may_try():
            self._give_up_untried(records)
            return []
        self.synced = False
        began = time.monotonic()
        try:
            self.store.write(list(records))  # a copy: others may hold this list, or it is written again
        except BaseException as error:  # a store may raise anything; the records are still here
            if self.error_policy.is_abort(error):
                raise
            self._write_again(records, error, began)
        else:
            count_channels(self.counters.stored, records)
            if self.outage.failed:
                self.outage.end()
        return []

    def _write_again(self, records: Sequence[Record], error: BaseException, began: float) -> None:
        """Retry unwritten records in order: first together, then one by one, so that each has its own error.

        A record that was alone in the last call has its own error already. While the store is down, they are not
        retried together, and one by one only while calls fail fast.
        """
        self.error_policy.note(error)
        left = self._sort(records, error)
        alone = error if len(records) == 1 else None
        if self.outage.is_on and left:
            self.outage.note(error, records=0, took_s=time.monotonic() - began)
            self._one_by_one(left, error if len(left) == 1 else None, 1)
            return

        def write() -> None:
            nonlocal left, alone
            try:
                self._write(left)
            except BaseException as last:  # as in run; records that the failed call wrote are not written again
                alone = last if len(left) == 1 else None
                left = self._sort(left, last)
                if left:
                    raise
            else:
                left = []

        if left:
            try:
                self.error_policy.again(write, error)
            except BaseException as last:  # as in run
                if self.error_policy.is_abort(last):
                    raise
                self.error_policy.note(last)
        self._one_by_one(left, alone)

    def _one_by_one(self, records: Sequence[Record], known: BaseException | None = None, tries: int = 0) -> None:
        """Write each record alone; `known` is the error of a record that has just been tried alone."""
        for place, record in enumerate(records):
            if self._run.aborting:
                raise RunAborted("the run is aborted")
            began = time.monotonic()
            if known is None and self.outage.is_on and not self.outage.may_try():
                self._give_up_untried(records[place:])
                return
            try:
                if known is not None:
                    raise known
                self._write([record])
            except BaseException as last:  # as in run
                if self.error_policy.is_abort(last):
                    raise
                if is_retryable(last) and not is_a(last, RecordExistsError):
                    self.outage.note(last, records=1, took_s=time.monotonic() - began)
                self.error_policy.give_up(record, _own_error(record, last), tries or self.error_policy.tries(last))

    def _give_up_untried(self, records: Sequence[Record]) -> None:
        for record in records:
            self.error_policy.give_up(record, self.outage.untried(), 0)

    def _write(self, records: Sequence[Record]) -> None:
        self.store.write(list(records))
        count_channels(self.counters.stored, records)
        self.outage.end()

    def _sort(self, records: Sequence[Record], error: BaseException) -> list[Record]:
        """Count records written in spite of an error, give up those that cannot be retried; return the others."""
        causes = _causes(records, error)
        if not causes:
            return list(records)
        left: list[Record] = []
        written: list[Record] = []
        for record in records:
            if not causes.get(id(record)):
                written.append(record)
                continue
            cause = causes[id(record)].pop()
            if is_retryable(cause) and is_retryable(error):
                left.append(record)
            else:
                self.error_policy.give_up(record, cause)
        if written:
            count_channels(self.counters.stored, written)
            self.outage.end()
        return left

    def sync(self, positions: Mapping[str, Any] | None = None) -> None:
        """Make all written records durable, with the positions of the sources if the store keeps them. Raises."""
        if self.synced and positions is None:
            return
        call: Callable[[], None] = self.store.sync
        if positions is not None:
            known = positions
            call = lambda: self.store.sync_with(known)  # noqa: E731 - one expression, like its neighbour
        try:
            call()
        except BaseException as error:  # such as a full disk, which may have room at the next try
            self.error_policy.note(error)
            self.error_policy.again(call, error)
        self.counters.syncs += 1
        self.synced = True

    def close(self) -> None:
        """Close the store, which syncs it."""
        self.close_component(self.store)


def _own_error(record: Record, error: BaseException) -> BaseException:
    causes = _causes([record], error).get(id(record))
    return causes[0] if causes else error


def _causes(records: Sequence[Record], error: BaseException) -> dict[int, list[BaseException]]:
    """Return the errors of the records that a StoreError names, by identity; {} if it names none.

    A store may name its own copy, with the same channel and number. If it names a record that is not among these, it is
    unknown which were written, and all are retried, as if it had named none.
    """
    known = {id(record) for record in records}
    copies: dict[tuple[str, int], int] = {(record.channel, record.seq): id(record) for record in records}
    causes: dict[int, list[BaseException]] = {}
    for record, cause in failed_records(error) or ():  # of a record that occurs twice, one may have failed
        place = id(record) if id(record) in known else copies.get((record.channel, record.seq))
        if place is None:
            return {}
        causes.setdefault(place, []).append(cause)
    return causes
