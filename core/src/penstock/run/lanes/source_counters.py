"""SourceCounters: the values that a source reports itself, with counters summed over all its openings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock.component import supports
from penstock.run.source_reports import REPORTS


class SourceCounters:
    """Ask a source for the values in `REPORTS`. Thread-safe.

    A source counts from each `open`; the sums here continue.

    Any error of a source is passed to `failed`, and must not prevent a report.
    """

    def __init__(self, failed: Callable[[str, BaseException], None]) -> None:
        self._failed = failed
        self._source: Any = None
        self._before: dict[str, Any] = {name: report.nothing for name, report in REPORTS.items() if report.adds_up}

    def opened(self, source: Any) -> None:
        """Ask this source from now on; it has just been opened."""
        self._source = source

    def closing(self) -> None:
        """Add up the counters of a source that is about to close, and ask it no more. May be called more than once."""
        self._before = {name: self.get(name) for name in self._before}
        self._source = None

    def get(self, name: str) -> Any:
        """Return the value of this method of the source, converted as `REPORTS` defines."""
        report = REPORTS[name]
        value = self._ask(name)
        return self._before[name] + value if report.adds_up else value

    def _ask(self, name: str) -> Any:
        source, report = self._source, REPORTS[name]
        try:
            if source is None or not supports(source, report.ability):
                return report.nothing
            return report.convert(getattr(source, name)())
        except BaseException as error:  # see above
            self._failed(name, error)
            return report.nothing
