"""ProcessLane: a thread that reads edges for a step in a worker process, and keeps that process busy."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from penstock.record import Record
from penstock.record_size import weigh
from penstock.run.edges.chunk import Chunk, End
from penstock.run.lanes.inbox_lane import InboxLane
from penstock.run.process.asking.ahead import may_go_ahead
from penstock.run.process.asking.remote_step import RemoteStep

IN_FLIGHT: Final = 2
"""The most lists in flight to a process: the one that it works on, and the next. More would only wait there."""


class ProcessLane(InboxLane):
    """A lane whose only step works in a process: while the process works on a list, the next one is sent.

    Barriers, ends, changes and deadlines wait until the results of all earlier lists have arrived.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._waiting: deque[tuple[int, Sequence[Record], int]] = deque()
        self._answered_ns = 0

    def work(self) -> None:
        """Take items until every edge has ended; wait for results while the inbox is empty."""
        while True:
            item = self.inbox.get(0.0 if self._waiting else self.wait_s())
            if isinstance(item, Chunk):
                self._note_names(item)
                self.process(item.received_ns, item.records)
            elif item is None:
                if self._waiting:
                    self._finish()
            else:
                self._finish_all()
                if isinstance(item, End):
                    return
                self.barrier(item)
            self.tick()

    def process(self, received_ns: int, records: Sequence[Record]) -> None:
        """Send records, in lists of a length that suits the step."""
        step = self.steps[0]
        if not isinstance(step, RemoteStep):  # another component has taken its place
            super().process(received_ns, records)
            return
        start = 0
        while start < len(records):
            part = records[start : start + self._grain]  # the grain may change in _finish
            start += len(part)
            while self._waiting and (len(self._waiting) >= IN_FLIGHT or not may_go_ahead(part)):
                self._finish()
            self._unless_aborted()
            step.start(part)
            self._waiting.append((received_ns, part, time.monotonic_ns()))

    def tick(self) -> None:
        """Finish all lists in flight if the step is due or a change waits, then handle it."""
        if self._waiting and (self._errands or (self._clocked and self.wait_s() == 0)):
            self._finish_all()
        super().tick()

    def _finish_all(self) -> None:
        while self._waiting:
            self._finish()

    def _finish(self) -> None:
        """Wait for the results of the oldest list in flight, and hand them on."""
        step = self.steps[0]
        assert isinstance(step, RemoteStep)  # it has a list in flight
        received_ns, records, begun = self._waiting.popleft()
        begun = max(begun, self._answered_ns)  # before that, it waited behind another list
        self.active = (step.name, begun / 1e9)
        given = step.finish()
        self.active = None
        self._answered_ns = time.monotonic_ns()
        took_ns = self._answered_ns - begun
        step.counters.work.add(took_ns // len(records), len(records))
        if not self._counted:
            heaviest = max(weigh(each) * len(each) for each in (records, given) if each)
            self._regrain(len(records), heaviest, took_ns)
        self._hand_on(received_ns, given)
        if self._parked is not None:
            self._go_on_with_barrier()
