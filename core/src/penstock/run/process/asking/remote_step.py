"""RemoteStep: a decoder or processor that works in a process of its own, as a step of a lane."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from penstock.component import Remark
from penstock.compose.resolve import ResolvedNode
from penstock.error_text import text_of
from penstock.errors import CodecError, WorkerDiedError
from penstock.record import Record
from penstock.report.counters import Counters
from penstock.run.context import RunContext
from penstock.run.process.asking.worker_process import WorkerProcess
from penstock.run.process.error_data import error_from_data
from penstock.run.process.messages import COUNTS, Answer
from penstock.run.process.results import unpack_column, unpack_results
from penstock.run.source_reports import as_remarks
from penstock.run.steps.step import Step

_log = logging.getLogger("penstock.run")

DEATHS: Final = 2
"""Deaths of the process over one record after which the record is given up, so that others do not wait for ever;
`retry` may allow more."""
STARTS: Final = 5
"""Consecutive processes that may die before they are ready; then the run ends. `retry` may allow more."""


@attrs.define(eq=False)
class _InFlight:
    """A list in flight.

    Attributes:
        records: The list.
        is_sent: Whether it was sent to the current process.
        first: The number of its first record.
        refused: Its records that cannot be sent, by place, with their errors.
    """

    records: Sequence[Record]
    is_sent: bool = False
    first: int = 0
    refused: Mapping[int, BaseException] = attrs.field(factory=dict)


class RemoteStep(Step):
    """A step that sends lists to a process and returns their results in order; several may be in flight.

    Barriers are not sent, since the lane finishes all lists before them. If the process dies, this side has all
    unfinished records: another process is started, receives the records that its component must know (`SupportsHeld`),
    and processes the oldest list again, record by record; later lists are sent again. A component that keeps records or
    a state without `held` loses them.
    """

    def __init__(self, resolved: ResolvedNode, run: RunContext, counters: Counters | None = None) -> None:
        super().__init__(resolved, run, counters)
        self._worker = WorkerProcess(resolved, run)
        self._number = 0
        self._kept: dict[int, Record] = {}
        self._given: Counter[int] = Counter()
        self._due: float | None = None
        self._told: tuple[Remark, ...] = ()
        self._torn: set[str] = set()
        self._over: BaseException | None = None
        self._in_flight: deque[_InFlight] = deque()
        times = self.error_policy.retry.times
        self._deaths, self._starts = (max(least, times or sys.maxsize) for least in (DEATHS, STARTS))

    def open(self) -> None:
        """Start the process, and make and open the component there."""
        self.clocked = bool(self._worker.open()["clocked"])

    def close(self) -> None:
        """Close the component, and end the process."""
        self.close_component(self._worker)

    def run(self, records: Sequence[Record]) -> list[Record]:
        """Process these records in the worker process."""
        self.start(records)
        return self.finish()

    def start(self, records: Sequence[Record]) -> None:
        """Send a list, without waiting. While others are in flight, it must be one that `may_go_ahead`."""
        self.counters.records_in += len(records)
        self._in_flight.append(_InFlight(records))
        self._send_on()

    def finish(self) -> list[Record]:
        """Return the results of the oldest list in flight."""
        sent = self._in_flight.popleft()
        results = self._done(sent.records, sent)
        self._send_on()  # to the new process, if one has died
        return results

    def _send_on(self) -> None:
        """Send the lists in flight that are not sent yet, in order."""
        for sent in self._in_flight:
            if not sent.is_sent and not self._send(sent):
                return

    def flush(self) -> list[Record]:
        """Return the last results."""
        return self._late("flush")

    def held(self) -> dict[int, Record]:
        """Return the records that the component reported as held."""
        return {id(record): record for record in self._kept.values()}

    def wait_s(self) -> float | None:
        """Return the seconds until the component is due, from its last answer."""
        return None if self._due is None else self._due - time.monotonic()

    def expire(self) -> list[Record]:
        """Return the results that are due."""
        return self._late("expire")

    def _done(self, records: Sequence[Record], sent: _InFlight | None = None) -> list[Record]:
        results: list[Record] = []
        for death in range(1, self._deaths + 1):
            if self._over is not None:
                for record in records:
                    self.error_policy.give_up(record, self._over)
                return results
            try:
                sent = sent or _InFlight(records)
                if not sent.is_sent:
                    self._send(sent)
                return results + self._taken(sent)
            except WorkerDiedError as error:
                sent = None
                results += self._again(error)
                if len(records) > 1:
                    return results + [result for record in records for result in self._done([record])]
                if death == self._deaths:
                    self.error_policy.give_up(records[0], error, death)
        return results

    def _late(self, call: str) -> list[Record]:
        results: list[Record] = []
        for _ in range(self._deaths):
            if self._over is not None:
                break
            try:
                return results + self._settle(self._worker.ask(call), self._kept)
            except WorkerDiedError as error:
                self.error_policy.note(error)
                results += self._again(error)
        else:
            self.error_policy.fail_late(call, WorkerDiedError(f"its process died over it {self._deaths} times"))
        return results

    def _send(self, sent: _InFlight) -> bool:
        """Send a list; return False if there is no process for it."""
        if self._over is not None:
            return False
        if self._torn:
            sent.records = self._marked(sent.records)
        sent.first = self._number
        self._number += len(sent.records)
        try:
            sent.refused = self._worker.send("run", sent.records, first=sent.first)
        except WorkerDiedError:  # `answer` raises it again
            return False
        sent.is_sent = True
        return True

    def _taken(self, sent: _InFlight) -> list[Record]:
        """Wait for the answer to a list that was sent, and return its results."""
        records, first = sent.records, sent.first
        answer = self._worker.answer(sent.refused)
        for place, refused in answer.refused.items():
            self.error_policy.give_up(records[place], refused)
        if "column" in answer.words:  # each record has one result, which differs in its data, and nothing is held
            self._count(answer, {})
            return unpack_column(answer.words["column"], records)
        return self._settle(answer, self._kept | dict(zip(range(first, first + len(records)), records, strict=True)))

    def _settle(self, answer: Answer, known: dict[int, Record]) -> list[Record]:
        """Add up the counters of an answer, and return its results."""
        results = list(unpack_results(answer, known))
        self._count(answer, known)
        return results

    def _count(self, answer: Answer, known: dict[int, Record]) -> None:
        """Add up the counters of an answer, and note the records that the component holds or gave up."""
        words = answer.words
        self._kept = {number: known[number] for number in words["held"]}
        if self._kept:
            for code in words["parent_of"]:
                self._given[code] += 1
        self._given = Counter({number: self._given[number] for number in self._kept if self._given[number]})
        for field, count in zip(COUNTS, words["counts"], strict=True):
            setattr(self.counters, field, getattr(self.counters, field) + count)
        self.counters.discarded.update(words["discarded"])
        self.counters.thinned.update(words["thinned"])
        told, self._told = self._told, as_remarks(words["remarks"])
        self.counters.replace_remarks(told, self._told)
        for number, data, tries in words["letters"]:
            self.error_policy.give_up(known[number], error_from_data(data), tries)
        for text, data, is_fatal in words["troubles"]:
            error = error_from_data(data)
            self.error_policy.note(error)
            (self._run.fail if is_fatal else self._run.trouble)(text, error)
        for reason in answer.missing.values():
            self._unsendable(reason)
        self._due = None if words["wait_s"] is None else time.monotonic() + words["wait_s"]

    def _unsendable(self, reason: str) -> None:
        """Account for a result that cannot be sent."""
        error = CodecError(f"a result cannot be sent from its process: {reason}")
        if self.counters.passed:
            self.counters.passed -= 1
            self.error_policy.give_up(Record(None), error)
        else:
            self.counters.extra -= 1
            self.error_policy.fail_late("flush", error)

    def _again(self, error: WorkerDiedError) -> list[Record]:
        """Start another process with the state of the dead one; return results that the dead one had not sent."""
        primed = 0
        for sent in self._in_flight:
            sent.is_sent = False  # the new process has not received them
        for _ in range(self._starts):
            self.error_policy.note(error)
            self.counters.restarts += 1
            _log.warning("%s; another is started", str(error))
            try:
                self._worker.open()
                primed += 1
                return self._prime() if self._kept else []
            except WorkerDiedError as second:
                error = second
                if primed == self._deaths and self._kept:
                    self._forget(error)
            except BaseException as second:  # the component may raise anything when it is opened
                if self.error_policy.is_abort(second):
                    raise
                self._give_up(second)
                return []
        self._give_up(error)
        return []

    def _prime(self) -> list[Record]:
        kept = self._kept
        answer = self._worker.ask("prime", list(kept.values()), numbers=list(kept), given=dict(self._given))
        results = list(unpack_results(answer, kept))
        counted = {
            "counts": [0] * len(COUNTS),
            "discarded": {},
            "thinned": {},
            "letters": (),
        }  # they were counted when first taken
        settled = {**answer.words, **counted, "order": (), "data_of": ()}
        self._settle(Answer(settled, (), (), {}, {}), kept)
        self.counters.extra += len(results)
        return results

    def _forget(self, error: WorkerDiedError) -> None:
        """Start the next process without the held records, over which the earlier ones died."""
        self._torn |= {record.channel for record in self._kept.values()}
        self._kept, self._given = {}, Counter()
        self.error_policy.fail_late("held", error)

    def _give_up(self, error: BaseException) -> None:
        self._over = error
        self._run.fail(f"{self.resolved.where}: its process died and cannot be started again: {text_of(error)}", error)

    def _marked(self, records: Sequence[Record]) -> Sequence[Record]:
        """Mark the first record of each channel that does not continue the records of the new process."""
        marked: list[Any] = list(records)
        for index, record in enumerate(marked):
            if record.channel in self._torn:
                self._torn.discard(record.channel)
                marked[index] = record.replace(discontinuity=True)
        return marked
