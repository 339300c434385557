"""Measure penstock beside its references: `python benchmarks/run.py [--only lanes] [--scale 0.1] [--json FILE]`.

Each side is measured seven times at least, in turns with its reference; figures are medians, and the ratio is the
median of the turns' ratios, with the smallest and the largest beside it. Plugins are given, so that no turn looks for
them, and lists are compared with lists. A goal that is missed has its reason in `goals`; one that has none, or that no
row has, makes the exit status 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
from goals import FELT, GOALS, Goal, without_reason, without_row
from measure import Row

SECTIONS = (
    "latency", "lanes", "at_rest", "handler", "peers", "processes", "between_processes", "hops", "lmdb_files",
    "zenoh_network", "startup", "records_as_bytes", "stores", "coordinates",
)  # fmt: skip


def shown(value: float | None, unit: str) -> str:
    """Return a figure as people read it."""
    if value is None:
        return "-"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def spread(row: Row) -> str:
    """Return the smallest and the largest ratio of a turn, or, without a reference, the smallest and largest figure."""
    values = row.ratios or sorted(row.ours)
    return f"{values[0]:.3g} to {values[-1]:.3g}" + ("" if row.ratios else f" {row.unit}")


def lines(row: Row, goals: Sequence[Goal]) -> list[str]:
    """Return a row as lines: its figures and its goals, with the reasons of those missed below them."""
    ratio = "" if row.ratio is None else f"x{row.ratio:.3g}"
    start = f"  {row.name:<82} {shown(row.figure, row.unit):>14} : {shown(row.beside, row.unit):<14} {ratio:<7}"
    start += f" ({spread(row)})"
    found = []
    for goal in goals:
        found.append(f"{start:<144} {goal.text(row.unit):<18} {'met' if goal.met_by(row) else 'MISSED'}")
        start = ""
        if not goal.met_by(row):
            found.append(f"      missed since: {goal.reason or 'no reason is known'}")
    return [*(found or [start]), f"      beside: {row.reference}; durable: {row.durability}; lost: {row.lost}"]


def table(rows: Sequence[Row]) -> str:
    """Return the rows as lines, by subject, in the order of the goals."""
    found, left = [], list(rows)
    for subject, goals in FELT.items():
        named = [row for row in left if any(goal.row == row.name for goal in goals)]
        if named:
            found.append(subject)
        for row in named:
            found += lines(row, [goal for goal in goals if goal.row == row.name])
            left.remove(row)
    if left:
        found.append("further")
    for row in left:
        found += lines(row, [goal for goal in GOALS if goal.row == row.name])
    return "\n".join(found)


def counted(rows: Sequence[Row]) -> str:
    """Return how many goals were met, and which were missed."""
    judged = [(goal, row) for goal in GOALS for row in rows if goal.row == row.name]
    missed = [f"\n    missed: {row.name}, {goal.text(row.unit)}" for goal, row in judged if not goal.met_by(row)]
    return f"{len(judged) - len(missed)} of {len(judged)} goals met" + "".join(missed)


def plain(row: Row) -> dict[str, object]:
    """Return a row with all that follows from it, for JSON."""
    judged = [
        {"goal": goal.text(row.unit), "met": goal.met_by(row), "reason": goal.reason}
        for goal in GOALS
        if goal.row == row.name
    ]
    medians = {"figure": row.figure, "beside": row.beside, "ratio": row.ratio}
    return {**attrs.asdict(row), **medians, "ratios": row.ratios, "goals": judged}


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SECTIONS, action="append", help="this part only; may be given several times")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual amount of work")
    parser.add_argument("--json", type=Path, help="write the figures of all turns to this file, as JSON")
    arguments = parser.parse_args()
    rows: list[Row] = []
    notes: list[str] = []
    sections = arguments.only or SECTIONS
    began = time.monotonic()
    for section in sections:
        print(f"{time.monotonic() - began:5.0f} s: measuring {section} ...", file=sys.stderr, flush=True)
        for row in importlib.import_module(section).rows(arguments.scale):
            if isinstance(row, str):
                notes.append(row)
            else:
                rows.append(row)
    load = os.getloadavg()[0]
    machine = f"Python {platform.python_version()}, {os.cpu_count()} processors, load {load:.1f}"
    took = f"measured in {time.monotonic() - began:.0f} s"
    print(table(rows), *notes, counted(rows), f"{machine}, {took}", sep="\n")
    if arguments.json:
        found = {"machine": machine, "notes": notes, "rows": [plain(row) for row in rows]}
        arguments.json.write_text(json.dumps(found, indent=2), encoding="utf-8")
    errors = [*without_reason(rows, GOALS), *without_row(rows, sections, GOALS)]
    print(*(f"error: {error}" for error in errors), sep="\n", end="\n" if errors else "", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
