"""The values that a source may report to a run, and how each is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from penstock.component import Remark, SupportsRemarks
from penstock.short_text import short
from penstock.source import (
    SupportsCommit,
    SupportsDrop,
    SupportsDurable,
    SupportsLag,
    SupportsLagSeconds,
    SupportsLoss,
    SupportsRejected,
)


@attrs.frozen
class SourceReport:
    """One value that a source reports, by a method without arguments that any thread may call.

    Attributes:
        ability: The protocol of the sources that report it.
        method: The method that returns it.
        convert: Checks and copies the returned value. Raises whatever a wrong value causes.
        nothing: The default if a source does not have this ability, is not open, or raises an error.
        adds_up: The source counts from each `open`, so that the run adds up the values of all openings.
        is_final: It may change until the source has closed, and is read a last time then.
        is_text: Sentences, which may be slow to make: a process sends them at most once a second, and at the end.
    """

    ability: type
    method: str
    convert: Callable[[Any], Any]
    nothing: Any
    adds_up: bool = False
    is_final: bool = True
    is_text: bool = False


def _counts(given: Any) -> Counter[str]:
    return Counter({str(channel): int(count) for channel, count in dict(given).items()})


def as_remarks(given: Any) -> tuple[Remark, ...]:
    """Return remarks as they are, or as a process sent them. Raises TypeError and ValueError for anything else."""
    if isinstance(given, (str, Remark)):
        raise TypeError(f"remarks() returned {type(given).__name__}: return a list of Remark(text, level)")
    return tuple(_as_remark(one) for one in given)


def _as_remark(given: Any) -> Remark:
    if isinstance(given, Remark):
        return given
    text, level = given
    if not isinstance(text, str) or level not in ("info", "warning"):
        raise ValueError(f"remarks() returned {short(given)}: return a list of Remark(text, level)")
    return Remark(text, level)


def remarks_to_data(remarks: Iterable[Remark]) -> list[list[str]]:
    """Return remarks as a process sends them; `as_remarks` reverses it."""
    return [[remark.text, remark.level] for remark in remarks]


REPORTS: Final = {
    report.method: report
    for report in (
        SourceReport(SupportsLoss, "lost_upstream", _counts, Counter(), adds_up=True),
        SourceReport(SupportsDrop, "dropped_upstream", _counts, Counter(), adds_up=True),
        SourceReport(SupportsRejected, "rejected", int, 0, adds_up=True),
        SourceReport(SupportsLag, "lag", int, None, is_final=False),
        SourceReport(SupportsLagSeconds, "lag_s", float, None, is_final=False),
        SourceReport(SupportsRemarks, "remarks", as_remarks, (), is_text=True),
    )
}
"""All reported values, by method. The account reads them, and a source's worker process sends them."""

POSITIONS: Final = ((SupportsCommit, "position"), (SupportsDurable, "mark"))
"""The methods that return a source's position, by ability; the first supported one is used."""
