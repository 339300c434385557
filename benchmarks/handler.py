"""From `put` until it is stored: DataHandler beside ExEngine's; bench_handler.py has a queue beside them, too."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator

import bench_handler
from measure import TURNS, Row, Turns, per_record, time_of_one


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
        yield per_record(name, "ExEngine's DataHandler", turns, count, durability=durability)
        if work == "sqlite":
            continue
        used = Turns([cpu_s for _, cpu_s in ours], [cpu_s for _, cpu_s in theirs])
        yield time_of_one(f"{name}: processor time a record", "ExEngine's DataHandler", used, "us", count)


def turn(side: str, work: str) -> tuple[float, float]:
    """Return the seconds that passed and those of the processor in one turn."""
    command = [sys.executable, bench_handler.__file__, "--measure", side, work]
    seconds, cpu_s = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return float(seconds), float(cpu_s)
