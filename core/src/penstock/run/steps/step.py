"""Step: a component at work inside a lane; one kind for each role that takes records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from penstock.compose.resolve import Part
from penstock.fields import all_exact, exact
from penstock.record import Record
from penstock.report.counters import Tally
from penstock.run.context import RunContext
from penstock.run.steps.guard import Guard


def only_records(given: Iterable[Any], method: str) -> list[Record]:
    """Return as a list what a component gave. Raises TypeError if that is anything but records with proper fields."""
    records = list(given)
    for record in records:
        if not isinstance(record, Record):
            raise TypeError(f"{method}() gave {record!r:.80}: give records")
    return records if all_exact(records) else [exact(record) for record in records]


class Step:
    """One component in a lane: it takes a list of records and gives one. Used by the thread of the lane only."""

    def __init__(self, part: Part, run: RunContext, tally: Tally | None = None) -> None:
        self.part = part
        self.name = part.node.name or ""
        self.tally = tally or Tally()
        self.guard = Guard(part, self.tally, run)
        self._run = run
        self.clocked = False  # asked for every list of records, and isinstance with a protocol is slow

    def open(self) -> None:
        """Make and open the component."""
        raise NotImplementedError

    def run(self, records: Sequence[Record]) -> list[Record]:
        """Take these records and return what comes of them. Never raises for a record's sake."""
        raise NotImplementedError

    def flush(self) -> list[Record]:
        """Return what is still inside, at the end."""
        return []

    def held(self) -> dict[int, Record]:
        """Return the records inside whose result is not out, by identity."""
        return {}

    def wait_s(self) -> float | None:
        """Return the seconds until `expire` wants to be called."""
        return None

    def expire(self) -> list[Record]:
        """Return what is due."""
        return []

    def close(self) -> None:
        """Close the component; an error is noted, not raised: closing must not hide what came first."""

    def give_up_held(self, records: Iterable[Record], error: BaseException) -> None:
        """Do what `on_error` says with records that were inside when a flush failed: nothing comes of them."""
        for record in records:
            if self.tally.gathered:  # it may keep one that it has failed for, which is counted already
                self.tally.gathered -= 1
                self.guard.give_up(record, error)

    def close_component(self, component: Any) -> None:
        """Close a component if it wants; an error is reported."""
        close = getattr(component, "close", None)
        if callable(close):
            try:
                close()
            except BaseException as error:  # closing never hides the first error; the run reports this one too
                self.guard.fail_late("close", error)
