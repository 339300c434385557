"""lead_singly: passes large records through several processors one by one, while they are in the cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from penstock.errors import RunAborted
from penstock.fields import shares_all_but_data
from penstock.record import Record
from penstock.record_size import weigh
from penstock.run.lanes.context import LaneContext
from penstock.run.steps.process_step import ProcessStep
from penstock.run.steps.step import Step

HEAVY_BYTES: Final = 2**17
"""The size in bytes above which reloading a record into the cache takes longer than calls by lists save."""


class SinglyLed(Protocol):
    """The lane of the steps.

    Attributes:
        run: Its run.
        active: The step that works at this moment and since when (monotonic seconds), or None.
    """

    run: LaneContext
    active: tuple[str, float] | None


def leading_processors(steps: Sequence[Step]) -> Iterator[ProcessStep]:
    """Yield the steps before the first one that is not a processor in this process."""
    for step in steps:
        if not isinstance(step, ProcessStep):
            return
        yield step


Call = tuple[Callable[[Record], Record] | None, Callable[[Record], Any]]
"""The function that prepares a record for a processor, or None, and the processor's call."""


def lead_singly(
    lane: SinglyLed, steps: Sequence[ProcessStep], records: Sequence[Record]
) -> tuple[Sequence[Record], int]:
    """Pass each record through all these steps before the next; return the results, and the size of the largest.

    From the first record whose result is not ordinary (one record that differs only in its data), the rest is passed as
    lists; counts, names and errors are the same. Raises RunAborted.
    """
    calls = [call for step in steps if (call := step.singly()) is not None]
    if len(calls) < len(steps) or any(record.discontinuity for record in records):
        return _as_lists(lane, steps, records), 0
    led = _Led(lane, steps, calls)
    try:
        return led.through(records), led.heaviest
    except BaseException:  # the run is aborted: the rest of the list is lost, as the counters of the first step show
        steps[0].counters.records_in += len(records) - led.counted
        raise


class _Led:
    """One list in progress.

    Attributes:
        heaviest: The size in bytes of the largest record seen.
        counted: The records that the first step has counted.
    """

    def __init__(self, lane: SinglyLed, steps: Sequence[ProcessStep], calls: Sequence[Call]) -> None:
        self.heaviest = self.counted = 0
        self._lane = lane
        self._steps = steps
        self._calls = [(step.name, prepare, call) for step, (prepare, call) in zip(steps, calls, strict=True)]
        self._took_ns = [0] * len(steps)

    def through(self, records: Sequence[Record]) -> Sequence[Record]:
        run, clock, lane, took_ns, calls = self._lane.run, time.monotonic_ns, self._lane, self._took_ns, self._calls
        given: list[Record] = []
        now = clock()
        for done, record in enumerate(records):
            current = record
            for index, (name, prepare, call) in enumerate(calls):
                if run.aborting:
                    raise RunAborted("the run is aborted")
                lane.active = (name, now / 1e9)
                owned = current if prepare is None else prepare(current)
                try:
                    result: Any = call(owned)
                except BaseException as error:  # any error of a user's function; see ProcessStep.run
                    took_ns[index] += clock() - now
                    return given + self._as_lists_from(records, done, index, current, None, error)
                before, now = now, clock()
                took_ns[index] += now - before
                if type(result) is not Record or not shares_all_but_data(result, owned):
                    return given + self._as_lists_from(records, done, index, current, result, None)
                current = result
                if not done:
                    self.heaviest = max(self.heaviest, weigh((current,)))
            given.append(current)
        self._count(len(self._steps), records)
        return given

    def _as_lists_from(
        self,
        records: Sequence[Record],
        done: int,
        index: int,
        current: Record,
        result: Any,
        error: BaseException | None,
    ) -> list[Record]:
        """Continue after a record whose result is not ordinary; the `done` records before it passed all steps."""
        self._count(index, records[: done + 1])
        self._count(len(self._steps), records[:done], first=index)
        self.counted = done + 1
        step = self._steps[index]
        given = _as_lists(self._lane, self._steps[index + 1 :], step.finish_one(current, result, error))
        self.counted = len(records)
        return [*given, *_as_lists(self._lane, self._steps, records[done + 1 :])]

    def _count(self, end: int, records: Sequence[Record], *, first: int = 0) -> None:
        """Count these records in the steps from `first` to before `end`."""
        for step, took_ns in zip(self._steps[first:end], self._took_ns[first:end], strict=True):
            if records:
                step.count_ordinary(records)
                step.counters.work.add(took_ns // len(records), len(records))
        self.counted = len(records)


def _as_lists(lane: SinglyLed, steps: Sequence[ProcessStep], records: Sequence[Record]) -> Sequence[Record]:
    for step in steps:
        if not records:
            break
        before = time.monotonic_ns()
        lane.active = (step.name, before / 1e9)
        taken = len(records)
        records = step.run(records)
        step.counters.work.add((time.monotonic_ns() - before) // taken, taken)
    return records
