"""Measure two ways of doing the same work in alternating turns, so that other load affects both alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

Work = Callable[[], object]

TURNS: Final = 7
"""The least number of turns for each side: a median of fewer depends on the load of the moment."""


@attrs.frozen
class Turns:
    """The seconds that both sides took, turn by turn; iterating gives the two medians."""

    ours: Sequence[float]
    theirs: Sequence[float]

    def __iter__(self) -> Iterator[float]:
        return iter((statistics.median(self.ours), statistics.median(self.theirs)))


@attrs.frozen(kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        name: What was measured; `goals` knows the goal by it.
        reference: What was measured beside it, in the same turns.
        unit: Of all figures: "us" and "ms" for times, "%" for parts of a core, "/s" for rates.
        ours, theirs: The figures of each turn; `theirs` is empty if there is no reference.
        durability: What is safe, and against what, when the measured time is over.
        lost: What may be, or was, lost on the way.
    """

    name: str
    reference: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    durability: str = "none: memory only"
    lost: str = "0"

    @property
    def figure(self) -> float:
        """The median of our turns."""
        return statistics.median(self.ours)

    @property
    def beside(self) -> float | None:
        """The median of the reference's turns; None without one."""
        return statistics.median(self.theirs) if self.theirs else None

    @property
    def ratios(self) -> list[float]:
        """How many times faster than the reference each turn was, sorted: above 1 is faster."""
        pairs = zip(self.ours, self.theirs, strict=bool(self.theirs))
        return sorted(ours / theirs if self.unit == "/s" else theirs / ours for ours, theirs in pairs)

    @property
    def ratio(self) -> float | None:
        """The median of the ratios; None without a reference."""
        return statistics.median(self.ratios) if self.theirs else None


def medians(ours: Work, theirs: Work, turns: int = TURNS, clock: Callable[[], float] = time.perf_counter) -> Turns:
    """Do both in alternating turns, and return the seconds of each turn.

    `clock` is the time that passes, or `time.process_time`, the time of the processor, which depends least on the
    other load of the machine.
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
    durability: str = "none: memory only",
    lost: str = "0",
) -> Row:
    """Return a row in records per second; `count` is the number of records of a turn."""
    ours, theirs = ([count / each for each in side] for side in (seconds.ours, seconds.theirs))
    return Row(
        name=name, reference=reference, unit="/s", ours=ours, theirs=theirs, durability=durability, lost=lost
    )  # fmt: skip


def time_of_one(name: str, reference: str, seconds: Turns, unit: str, count: int = 1) -> Row:
    """Return a row of the time of one of `count` in each turn, in "ms" or "us"."""
    factor = {"ms": 1e3, "us": 1e6}[unit] / count
    ours, theirs = ([each * factor for each in side] for side in (seconds.ours, seconds.theirs))
    return Row(name=name, reference=reference, unit=unit, ours=ours, theirs=theirs)
