"""Measure two ways of doing the same work by turns, so that whatever else the machine does meets both alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import attrs

Work = Callable[[], object]


@attrs.frozen(kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        name, reference: What was measured, and what beside it.
        unit: Of both figures: "us" and "ms" for times, "/s" for rates.
        figure, reference_figure: The best of all turns; between processes, the median.
        ratio: How often better than the reference in speed: above 1 is faster.
        goal: What is wanted of the ratio, or of the figure; "" for none.
        met: Whether this run met the goal; None without one.
        durability: What is safe, and against what, when the measured time is over.
        lost: What may be, or was, lost on the way.
    """

    name: str
    reference: str
    unit: str
    figure: float
    reference_figure: float
    ratio: float
    goal: str = ""
    met: bool | None = None
    durability: str = "none: memory only"
    lost: str = "0"


def best(ours: Work, theirs: Work, turns: int) -> tuple[float, float]:
    """Do both by turns and return the shortest time of each, in seconds."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for work, found in zip((ours, theirs), times, strict=True):
            gc.collect()
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
    return min(times[0]), min(times[1])


def per_record(
    name: str,
    reference: str,
    seconds: tuple[float, float],
    count: int,
    *,
    least_ratio: float = 0.0,
    goal: str = "",
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
        ratio=theirs / ours,
        goal=goal or (f">= {least_ratio:.3g}" if least_ratio else ""),
        met=theirs / ours >= least_ratio if least_ratio else None,
        durability=durability,
        lost=lost,
    )
