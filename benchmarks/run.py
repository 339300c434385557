"""Measure penstock beside its references: `python benchmarks/run.py [--only lanes] [--scale 0.1] [--json FILE]`.

Each figure is the best of several turns, taken by turns with those of its reference in the same process (or, for
starting up, in processes one after the other). Goals are goals, not assertions: a loaded machine misses some.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path

import attrs
from measure import Row

SECTIONS = (
    "lanes",
    "peers",
    "startup",
    "records_as_bytes",
    "stores",
    "lmdb_files",
    "coordinates",
    "handler",
    "between_processes",
    "hops",
    "processes",
)


def shown(value: float, unit: str) -> str:
    """Return a figure as people read it."""
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def table(rows: list[Row]) -> str:
    """Return the rows as lines, with what each states about durability and loss below it."""
    lines = []
    for row in rows:
        met = "" if row.met is None else ("met" if row.met else "MISSED")
        figures = f"{shown(row.figure, row.unit)} : {shown(row.reference_figure, row.unit)}"
        lines.append(f"{row.name:<58} {figures:>32}  x{row.ratio:<6.3g} {row.goal:<9} {met}")
        lines.append(f"    beside: {row.reference}")
        lines.append(f"    durable: {row.durability}; lost: {row.lost}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SECTIONS, action="append", help="this part only; may be given several times")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual amount of work")
    parser.add_argument("--json", type=Path, help="write the JSON here instead of to the output")
    arguments = parser.parse_args()
    rows: list[Row] = []
    notes: list[str] = []
    for section in arguments.only or SECTIONS:
        print(f"measuring {section} ...", file=sys.stderr, flush=True)
        for row in importlib.import_module(section).rows(arguments.scale):
            if isinstance(row, str):
                notes.append(row)
            else:
                rows.append(row)
    load = os.getloadavg()[0]
    machine = f"Python {platform.python_version()}, {os.cpu_count()} processors, load {load:.1f}"
    print(table(rows), *notes, machine, sep="\n")
    plain = json.dumps({"machine": machine, "notes": notes, "rows": [attrs.asdict(row) for row in rows]}, indent=2)
    if arguments.json:
        arguments.json.write_text(plain)
    else:
        print(plain)


if __name__ == "__main__":
    main()
