"""Measure two ways of doing the same work by turns, so that whatever else the machine does meets both alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

Work = Callable[[], object]

TURNS: Final = 7
"""How often each side is measured at least: a median of fewer depends on who else had the processor."""


@attrs.frozen
class Turns:
    """What both sides took, turn by turn, in seconds; iterating gives the two medians."""

    ours: Sequence[float]
    theirs: Sequence[float]

    def __iter__(self) -> Iterator[float]:
        return iter((statistics.median(self.ours), statistics.median(self.theirs)))

    def __getitem__(self, index: int) -> float:
        return list(self)[index]

    @property
    def ratios(self) -> list[float]:
        """How often faster than the other each turn was, in order of size: above 1 is faster."""
        return sorted(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def spread(self) -> str:
        """The smallest and the largest of the ratios."""
        return f"{self.ratios[0]:.2f} to {self.ratios[-1]:.2f}"


@attrs.frozen(kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        name, reference: What was measured, and what beside it.
        unit: Of both figures: "us" and "ms" for times, "%" for parts of a core, "/s" for rates.
        figure, reference_figure: The medians of the turns.
        ratio: How often better than the reference in speed: above 1 is faster. The median of the turns.
        spread: The smallest and the largest ratio of a turn; "" if there was but one.
        goal: What is wanted of the ratio, or of the figure; "" for none.
        met: Whether this run met the goal; None without one.
        reason: Why the goal is missed, where it is and that is known.
        durability: What is safe, and against what, when the measured time is over.
        lost: What may be, or was, lost on the way.
    """

    name: str
    reference: str
    unit: str
    figure: float
    reference_figure: float
    ratio: float
    spread: str = ""
    goal: str = ""
    met: bool | None = None
    reason: str = ""
    durability: str = "none: memory only"
    lost: str = "0"


def medians(ours: Work, theirs: Work, turns: int = TURNS, clock: Callable[[], float] = time.perf_counter) -> Turns:
    """Do both by turns, and return what each turn took.

    `clock` is the time that passes, or `time.process_time`, the time of the processor: that does not depend on who
    else has work for it.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(max(TURNS, turns)):
        for work, found in zip((ours, theirs), times, strict=True):
            gc.collect()
            start = clock()
            work()
            found.append(clock() - start)
    return Turns(*times)


def per_record(
    name: str,
    reference: str,
    seconds: Turns,
    count: int,
    *,
    least_ratio: float = 0.0,
    goal: str = "",
    reason: str = "",
    durability: str = "none: memory only",
    lost: str = "0",
) -> Row:
    """Return a row in records per second. `least_ratio` is the goal, and 0 for none."""
    ours, theirs = seconds
    return Row(
        name=name,
        reference=reference,
        unit="/s",
        figure=count / ours,
        reference_figure=count / theirs,
        ratio=seconds.ratio,
        spread=seconds.spread,
        goal=goal or (f">= {least_ratio:.3g}" if least_ratio else ""),
        met=seconds.ratio >= least_ratio if least_ratio else None,
        reason=reason,
        durability=durability,
        lost=lost,
    )


def at_most(
    name: str, figure: float, most: float, unit: str, *, reference: str = "", beside: float = 0.0, reason: str = ""
) -> Row:
    """Return a row of a figure that is to be no larger than `most`, with what the reference had beside it."""
    return Row(
        name=name,
        reference=reference or "nothing",
        unit=unit,
        figure=figure,
        reference_figure=beside,
        ratio=beside / figure if figure else 0.0,
        goal=f"<= {most:g} {unit}",
        met=figure <= most,
        reason=reason,
    )
