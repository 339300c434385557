"""From `put` until it is stored: DataHandler beside ExEngine's; bench_handler.py has a queue beside them, too."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

import bench_handler
from measure import TURNS, Row, Turns, at_most, per_record

MOST_US = 12.0
PROMISES = (
    "penstock copies a record where its memory is reused, makes it read-only, weighs, bounds and counts it, and notes "
    "each of its steps in a ledger; ExEngine only passes it on"
)


def rows(scale: float) -> Iterator[Row | str]:
    """Measure, each turn in a process of its own: ExEngine's threads take turns well, or badly, for a whole process."""
    if not importlib.util.find_spec("exengine"):
        yield "handler: not measured, since exengine is not installed"
        return
    for work, (count, _, what) in bench_handler.WORKS.items():
        ours, theirs = [], []
        for _ in range(TURNS):
            ours.append(turn("penstock", work))
            theirs.append(turn("exengine", work))
        turns = Turns([seconds for seconds, _ in ours], [seconds for seconds, _ in theirs])
        done, durability = what.split("; ")
        name = f"DataHandler: {done}"
        yield per_record(
            name, "ExEngine's DataHandler", turns, count, least_ratio=2, reason=PROMISES, durability=durability
        )
        if work == "sqlite":
            continue
        us, beside = (median(cpu_s for _, cpu_s in side) / count * 1e6 for side in (ours, theirs))
        yield at_most(f"{name}: processor time a record", us, MOST_US, "us", reference="ExEngine's", beside=beside)


def turn(side: str, work: str) -> tuple[float, float]:
    """Return the seconds that passed and those of the processor in one turn."""
    command = [sys.executable, bench_handler.__file__, "--measure", side, work]
    seconds, cpu_s = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return float(seconds), float(cpu_s)
