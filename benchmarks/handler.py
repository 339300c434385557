"""From `put` until it is stored: DataHandler beside ExEngine's; bench_handler.py has a queue beside them, too."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator

import bench_handler
from measure import Row

TURNS = 3


def rows(scale: float) -> Iterator[Row | str]:
    """Measure, each turn in a process of its own."""
    if not importlib.util.find_spec("exengine"):
        yield "handler: not measured, since exengine is not installed"
        return
    for work, (_, _, what) in bench_handler.WORKS.items():
        ours, theirs = (0.0, 0.0)
        for _ in range(max(1, round(TURNS * scale))):
            ours, theirs = max(ours, rate("penstock", work)), max(theirs, rate("exengine", work))
        done, durability = what.split("; ")
        yield Row(
            name=f"DataHandler: {done}",
            reference="ExEngine's DataHandler",
            unit="/s",
            figure=ours,
            reference_figure=theirs,
            ratio=ours / theirs,
            goal=">= 5",
            met=ours / theirs >= 5,
            durability=durability,
        )


def rate(side: str, work: str) -> float:
    """Return the records per second of one turn."""
    command = [sys.executable, bench_handler.__file__, "--measure", side, work]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
