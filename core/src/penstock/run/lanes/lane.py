"""Lanes: the threads of a run. Components that are fused into one lane pass records on by plain calls."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from penstock.compose.resolve import ResolvedNode
from penstock.error_text import is_a, text_of
from penstock.errors import RunAborted, RunError
from penstock.fields import joined, part_of
from penstock.record import Record
from penstock.record_size import Sizes, size_of, weigh
from penstock.run.edges.chunk import END, MOST_AT_ONCE, Barrier
from penstock.run.edges.edge import LiveEdge
from penstock.run.edges.inbox import InboxEdge
from penstock.run.edges.outlet import Outlet, shared
from penstock.run.lanes.allocator import keep_freed_memory
from penstock.run.lanes.context import LaneContext
from penstock.run.lanes.opening import Opening, opening
from penstock.run.lanes.singly import HEAVY_BYTES, lead_singly, leading_processors
from penstock.run.steps.make import step_for
from penstock.run.steps.process_step import ProcessStep
from penstock.run.steps.step import Step
from penstock.run.steps.store_step import StoreStep

GRAIN_BYTES: Final = 2**20
"""The approximate size limit of a list that a lane passes through its steps: the output of one step is still in the
cache when the next one reads it. A lane takes fewer records at once if its steps make them larger. Where each record
passes several processors before the next does (`singly`), a list may have the size of one on an edge."""
LIST_GRAINS: Final = 8
"""How many of these make up one list on an edge: passing a list on costs as much as passing many records on."""
GRAIN_NS: Final = 50_000_000
"""Approximate nanoseconds of work on one list, and so the longest delay of results, barriers and an abort."""


class Lane:
    """A thread with the steps that are fused into it, and their outlets.

    Attributes:
        name: The names of its nodes, joined by "+".
        steps: The components, in order.
        outlets: The outlets for the records of the last step.
        active: The step that is at work, with its start (monotonic seconds), or None.
        ended: Set when all records have gone through and no more will come.
        opening: The opening that it takes part in; set before its thread starts.
        released: Set when everything is open and joined: it begins to work.
    """

    def __init__(self, run: LaneContext, name: str, steps: Sequence[Step], *, counted: bool = False) -> None:
        keep_freed_memory()
        self.run = run
        self.name = name
        self.steps = list(steps)
        self.outlets: tuple[Outlet, ...] = ()
        self.active: tuple[str, float] | None = None
        self.ended = False
        self.thread = threading.Thread(target=self._main, name=f"penstock {run.name}: {name}", daemon=True)
        self.opening: Opening | None = None
        self.released = threading.Event()
        self._cancelled = False
        self._counted = counted
        self._grain = sys.maxsize if counted else 1
        self._parked: tuple[Barrier, int, dict[int, Record]] | None = None
        self._clocked: list[int] = []
        self._processors: list[ProcessStep] = []
        self._singly = False
        self._errands: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._errands_lock = threading.Lock()
        self._gone = False

    @property
    def edges(self) -> Sequence[InboxEdge]:
        """The edges that the lane reads; that of a source reads none."""
        return ()

    # -- life ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the components, the last one first. Called in the thread of the lane."""
        for step in reversed(self.steps):
            with opening(step.resolved):
                step.open()
                if isinstance(step, StoreStep):
                    self.run.checkpoints.store_opened(step)
        self._sort_steps()

    def _sort_steps(self) -> None:
        """Determine which steps have a clock, and which processors come first."""
        self._clocked = [index for index, step in enumerate(self.steps) if step.clocked]
        self._processors = list(leading_processors(self.steps))

    def open_source(self) -> None:
        """Do nothing: only the lane of a source has one."""

    def close(self) -> None:
        """Close the components. Called in the thread of the lane."""
        for step in self.steps:
            self.active = (step.name, time.monotonic())
            step.close()
        self.active = None

    def cancel(self) -> None:
        """Close instead of beginning to work. From any thread, before `released` is set."""
        self._cancelled = True
        self.released.set()

    def abandon(self) -> None:
        """Count the records that are lost because the thread of the lane does not return. From any thread."""

    def _main(self) -> None:
        try:
            if self.opening is not None and self.opening.open(self):
                self.released.wait()
                if not self._cancelled:
                    self.work()
                    self.end()
        except BaseException as error:  # an abort, or a bug in penstock: then the run must end and report it
            if not (self.run.aborting and is_a(error, RunAborted)):
                try:
                    self.run.fail(f"lane {self.name!r}: {text_of(error)}", error)
                finally:
                    self.run.abort()
        finally:
            try:
                self._refuse_errands()
                self.close()
            finally:  # in any case: other threads wait for this
                self.run.left(self)

    def work(self) -> None:
        """Pass records through the steps until no more come."""
        raise NotImplementedError

    def end(self) -> None:
        """Flush the steps, one after the other, each through those behind it; then send the end to the outlets."""
        for index, step in enumerate(self.steps):
            self.active = (step.name, time.monotonic())
            late = step.flush()
            self._unless_aborted()
            if late:
                self._late_through(index + 1, late)
        self._go_on_with_barrier(flushed=True)
        for step in self.steps:
            if isinstance(step, StoreStep):
                self.run.checkpoints.store_ended(step)
        for outlet in self.outlets:
            outlet.control(END)
        self.ended = True

    # -- records ---------------------------------------------------------------------------------------------------

    def process(self, received_ns: int, records: Sequence[Record]) -> None:
        """Pass records through all steps, in parts that are small enough if the steps make them larger."""
        if not records:  # from a worker without results, which keeps its turn
            return
        if len(records) <= self._grain:
            self._hand_on(received_ns, self._through(0, records, received_ns))
        else:
            self._in_parts(received_ns, records)
        if self._parked is not None:
            self._go_on_with_barrier()

    def _in_parts(self, received_ns: int, records: Sequence[Record]) -> None:
        """Pass records through the steps in parts that fit the cache; join the results of several parts to one list."""
        start = parts = 0
        begun = time.monotonic_ns()
        given: list[Sequence[Record]] = []
        while start < len(records):
            self._unless_aborted()
            part = part_of(records, start, start + self._grain)
            start += len(part)
            parts += 1
            results = self._through(0, part, received_ns)
            if results:
                given.append(results)
            if parts >= LIST_GRAINS or self._singly or time.monotonic_ns() - begun > GRAIN_NS:
                self._hand_on(received_ns, joined(given) if given else [])
                given, parts, begun = [], 0, time.monotonic_ns()
        self._hand_on(received_ns, joined(given) if given else [])

    def _late_through(self, first: int, records: Sequence[Record]) -> None:
        """Pass the late results of a step through those behind it, and on."""
        now = time.monotonic_ns()
        results = self._through(first, records, now)
        if results:
            self._emit(now, results, late=True)

    def _hand_on(self, received_ns: int, records: Sequence[Record]) -> None:
        if records or self._counted:
            self._emit(received_ns, records)

    def list_size(self) -> int:
        """Return the number of records in a list for the edges behind this lane.

        It is one while lists of one pass the steps: several workers would share a short list unevenly.
        """
        several = self.outlets and self._grain > 1 and not self._singly
        return min(self._grain * LIST_GRAINS, MOST_AT_ONCE) if several else self._grain

    def halt(self) -> None:
        """Stop the steps after their current record. From any thread, when the run is aborted."""
        for step in self.steps:
            step.halt()

    def _unless_aborted(self) -> None:
        if self.run.aborting:
            raise RunAborted("the run is aborted")

    def _through(self, first: int, records: Sequence[Record], received_ns: int) -> Sequence[Record]:
        """Pass records through the steps from the one with this index on; return the results."""
        count = len(records)
        each_bytes = weigh(records)
        heaviest = each_bytes * count
        begun = now = time.monotonic_ns()
        steps = self.steps[first:]
        singly = each_bytes >= HEAVY_BYTES and not first and len(self._processors) > 1
        if not first:
            self._singly = singly
        if singly:
            records, largest = lead_singly(self, self._processors, records)
            heaviest = max(heaviest, largest * count)
            now = time.monotonic_ns()
            steps = steps[len(self._processors) :] if records else []
        for step in steps:
            before = time.monotonic_ns()
            self.active = (step.name, before / 1e9)
            taken = len(records)
            sent = step.run(records)
            now = time.monotonic_ns()
            counters = step.counters
            counters.work.add((now - before) // taken, taken)
            if not sent:
                if step.resolved.node.role == "store":
                    counters.latency.add(now - received_ns, taken)
                    counters.data_bytes += taken * size_of(records[0].data)
                records = sent
                break
            records = sent
            weight = weigh(records) * len(records)
            heaviest = max(heaviest, weight)
        self.active = None
        if not self._counted and not first:
            self._regrain(count, heaviest, now - begun)
        return records

    def _regrain(self, count: int, heaviest: int, took_ns: int) -> None:
        """Take fewer records at once if they are large or slow, more if they are neither and more are available."""
        most_bytes = GRAIN_BYTES * LIST_GRAINS if self._singly else GRAIN_BYTES
        if heaviest > most_bytes or took_ns > GRAIN_NS:
            self._grain = max(1, self._grain // 2)
        elif (
            count >= self._grain
            and self._grain < MOST_AT_ONCE
            and heaviest * 2 <= most_bytes
            and took_ns * 2 <= GRAIN_NS
        ):
            self._grain *= 2

    def _emit(self, received_ns: int, records: Sequence[Record], *, late: bool = False) -> None:
        outlets = self.outlets
        sizes: Sizes | None = None
        if len(outlets) > 1:
            records = shared(records)
            sizes = Sizes(records)
        for outlet in outlets:
            outlet.put(received_ns, records, sizes, late=late)

    def tick(self) -> None:
        """Call the steps that are due."""
        if self._errands:
            self._run_errands()
        for index in self._clocked:
            wait = self.steps[index].wait_s()
            if wait is not None and wait <= 0:
                late = self.steps[index].expire()
                if late:
                    self._late_through(index + 1, late)
        if self._parked is not None:
            self._go_on_with_barrier()

    # -- changes while it runs -------------------------------------------------------------------------------------

    def ask(self, errand: Callable[[], None]) -> Future[None]:
        """Have the thread of the lane call this between two lists. From any other thread."""
        future: Future[None] = Future()
        with self._errands_lock:
            if self._gone:
                future.set_exception(RunError(f"lane {self.name!r} has ended"))
            else:
                self._errands.append((errand, future))
        self.nudge()
        return future

    def nudge(self) -> None:
        """Interrupt the lane's wait."""
        raise NotImplementedError

    def _run_errands(self) -> None:
        while self._errands:
            errand, future = self._errands.popleft()
            try:
                errand()
            except RunError as error:  # raised in the thread that asked
                future.set_exception(error)
            except BaseException as error:  # a component may raise anything; the lane continues
                refused = RunError(f"lane {self.name!r}: {text_of(error)}")
                refused.__cause__ = error
                future.set_exception(refused)
            else:
                future.set_result(None)

    def _refuse_errands(self) -> None:
        with self._errands_lock:
            self._gone = True
        while self._errands:
            _, future = self._errands.popleft()
            future.set_exception(RunError(f"lane {self.name!r} has ended"))

    def leave_edge(self, edge: LiveEdge) -> None:
        """Send nothing more to an edge, and end it. Called in the thread of the lane."""
        self.outlets = tuple(outlet for outlet in self.outlets if outlet is not edge)
        edge.partial = True
        edge.control(END)

    def node_names(self) -> set[str]:
        """Return the names of the nodes that work in this lane."""
        return {step.name for step in self.steps} or {self.name.partition(":")[0]}

    def swap(self, step: Step, resolved: ResolvedNode) -> Step:
        """Replace a component; records inside the old one are passed on first. In the thread of the lane.

        Raises:
            RunError: the new one cannot be opened; the old one stays at work (a store is reopened).
        """
        index = self.steps.index(step)
        late = step.flush()
        if late:
            self._late_through(index + 1, late)
        if self._parked is not None and self._parked[1] == index:
            self._go_on_with_barrier(flushed=True)
        fresh = step_for(resolved, self.run, step.counters)
        if isinstance(step, StoreStep):
            step.sync()
            step.close()
        try:
            with opening(resolved):
                fresh.open()
        except RunError:
            if isinstance(step, StoreStep):
                step.open()
            raise
        if not isinstance(step, StoreStep):
            step.close()
        self.steps[index] = fresh
        self._sort_steps()
        return fresh

    def wait_s(self) -> float | None:
        """Return the seconds until a step is due; None if none is."""
        waits = [wait for index in self._clocked if (wait := self.steps[index].wait_s()) is not None]
        return max(0.0, min(waits)) if waits else None

    # -- barriers --------------------------------------------------------------------------------------------------

    def barrier(self, barrier: Barrier, first: int = 0) -> None:
        """Pass a barrier on: stores sync; a component that holds records delays it until they are out."""
        for index in range(first, len(self.steps)):
            step = self.steps[index]
            if isinstance(step, StoreStep):
                self.run.checkpoints.store_reached(step, barrier)
            else:
                held = step.held()
                if held:
                    self._parked = (barrier, index, held)
                    return
        for outlet in self.outlets:
            outlet.control(barrier)

    def _go_on_with_barrier(self, *, flushed: bool = False) -> None:
        if self._parked is None:
            return
        barrier, index, before = self._parked
        if not flushed and not before.keys().isdisjoint(self.steps[index].held()):
            return
        self._parked = None
        self.barrier(barrier, index + 1)
