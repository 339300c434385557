"""Step: the base of the steps of a lane, one class for each role that takes records."""

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
"""The longest wait in seconds; threads cannot wait for ever, so a lane waits again."""


def only_records(given: Iterable[Any], method: str) -> list[Record]:
    """Return the results of a component as a list. Raises TypeError unless they are records with valid fields."""
    records = list(given)
    for record in records:
        if not issubclass(type(record), Record):
            raise TypeError(f"{method}() returned {type(record).__name__}: return records")
    return records if all_exact(records) else [exact(record) for record in records]


def seconds_of(wait: Any) -> float | None:
    """Return the result of a component's `wait_s` as seconds to wait. Raises ValueError if it is not a number."""
    if wait is None:
        return None
    seconds = float(wait)
    if seconds != seconds:
        raise ValueError("wait_s() returned NaN: return seconds, or None")
    return min(seconds, _LONGEST_WAIT_S)


class Step:
    """One component in a lane: it maps a list of records to another. Used by the thread of the lane only."""

    def __init__(self, resolved: ResolvedNode, run: RunContext, counters: Counters | None = None) -> None:
        self.resolved = resolved
        self.name = resolved.node.name or ""
        self.counters = counters or Counters()
        self.error_policy = ErrorPolicy(resolved, self.counters, run)
        self._run = run
        self._todo: list[Record] = []
        self.clocked = False  # read for every list of records; isinstance with a protocol would be slow

    @property
    def component(self) -> Any:
        """The component, if it is one object in this process."""
        return None

    def open(self) -> None:
        """Make and open the component."""
        raise NotImplementedError

    def run(self, records: Sequence[Record]) -> list[Record]:
        """Return the results of these records. Never raises because of a single record."""
        raise NotImplementedError

    def share_names(self, sibling: Step) -> None:
        """Keep the names of its results distinct from those of another worker of the node."""

    def halt(self) -> None:
        """Make `run` raise RunAborted after the current record. From any thread, when the run is aborted."""
        self._todo.clear()

    def _begin(self, records: Sequence[Record]) -> Iterator[Record]:
        """Return an iterator over records that `halt` empties, so that checking between records costs nothing."""
        todo = self._todo = list(records)
        if self._run.aborting:
            todo.clear()
        return iter(todo)

    def _end(self) -> None:
        """Release the records. Raises RunAborted if the iterator ended because of an abort."""
        self._todo = []
        if self._run.aborting:
            raise RunAborted("the run is aborted")

    def flush(self) -> list[Record]:
        """Return the last results, at the end."""
        return []

    def held(self) -> dict[int, Record]:
        """Return the records inside whose results are not yet out, by identity."""
        return {}

    def wait_s(self) -> float | None:
        """Return the seconds until `expire` is due; None if it never is."""
        return None

    def expire(self) -> list[Record]:
        """Return the results that are due."""
        return []

    def close(self) -> None:
        """Close the component; an error is noted, not raised: closing must not hide an earlier error."""

    def give_up_held(self, records: Iterable[Record], error: BaseException) -> None:
        """Treat records that were inside when a flush failed as `on_error` says: they have no results."""
        for record in records:
            if self.counters.buffered:  # it may hold a record that has failed, which is already counted
                self.counters.buffered -= 1
                self.error_policy.give_up(record, error)

    def close_component(self, component: Any) -> None:
        """Close a component, if it has `close`; an error is reported."""
        try:
            close = getattr(component, "close", None)
            if callable(close):
                close()
        except BaseException as error:  # closing never hides the first error; the run reports this one too
            self.error_policy.fail_late("close", error)
