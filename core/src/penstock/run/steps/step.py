"""Step: a component at work inside a lane; one kind for each role that takes records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from penstock.compose.resolve import ResolvedNode
from penstock.errors import RunAborted
from penstock.fields import all_exact, exact
from penstock.record import Record
from penstock.report.counters import Counters
from penstock.run.context import RunContext
from penstock.run.steps.error_policy import ErrorPolicy

_LONGEST_WAIT_S: Final = 3600.0
"""Threads cannot wait for ever in one go; a lane asks again."""


def only_records(given: Iterable[Any], method: str) -> list[Record]:
    """Return as a list what a component gave. Raises TypeError if that is anything but records with proper fields."""
    records = list(given)
    for record in records:
        if not issubclass(type(record), Record):
            raise TypeError(f"{method}() gave {type(record).__name__}: give records")
    return records if all_exact(records) else [exact(record) for record in records]


def seconds_of(wait: Any) -> float | None:
    """Return as seconds to wait what a component's `wait_s` gave. Raises ValueError if that is no number."""
    if wait is None:
        return None
    seconds = float(wait)
    if seconds != seconds:
        raise ValueError("wait_s() gave not-a-number: give seconds, or None")
    return min(seconds, _LONGEST_WAIT_S)


class Step:
    """One component in a lane: it takes a list of records and gives one. Used by the thread of the lane only."""

    def __init__(self, resolved: ResolvedNode, run: RunContext, counters: Counters | None = None) -> None:
        self.resolved = resolved
        self.name = resolved.node.name or ""
        self.counters = counters or Counters()
        self.error_policy = ErrorPolicy(resolved, self.counters, run)
        self._run = run
        self._todo: list[Record] = []
        self.clocked = False  # asked for every list of records, and isinstance with a protocol is slow

    @property
    def component(self) -> Any:
        """What works here, if that is one object of this process."""
        return None

    def open(self) -> None:
        """Make and open the component."""
        raise NotImplementedError

    def run(self, records: Sequence[Record]) -> list[Record]:
        """Take these records and return what comes of them. Never raises for a record's sake."""
        raise NotImplementedError

    def share_names(self, sibling: Step) -> None:
        """Keep the names of what it gives apart from those that another worker of the node gives."""

    def halt(self) -> None:
        """Let `run` raise RunAborted after the record that it works at. From any thread, when the run is aborted."""
        self._todo.clear()

    def _begin(self, records: Sequence[Record]) -> Iterator[Record]:
        """Return an iterator over records that `halt` empties: looking between them costs nothing."""
        todo = self._todo = list(records)
        if self._run.aborting:
            todo.clear()
        return iter(todo)

    def _end(self) -> None:
        """Hold the records no longer. Raises RunAborted if the iterator ended because of an abort."""
        self._todo = []
        if self._run.aborting:
            raise RunAborted("the run is aborted")

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
            if self.counters.buffered:  # it may keep one that it has failed for, which is counted already
                self.counters.buffered -= 1
                self.error_policy.give_up(record, error)

    def close_component(self, component: Any) -> None:
        """Close a component if it wants; an error is reported."""
        try:
            close = getattr(component, "close", None)
            if callable(close):
                close()
        except BaseException as error:  # closing never hides the first error; the run reports this one too
            self.error_policy.fail_late("close", error)
