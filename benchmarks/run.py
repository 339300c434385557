"""Measure penstock beside its references: `python benchmarks/run.py [--only lanes] [--scale 0.1] [--json FILE]`.

Each side is measured seven times at least, by turns with its reference; figures are medians, and the ratio is that of
the turns, with the smallest and the largest beside it. Plugins are given, so that no turn looks for them, and lists are
compared with lists. Goals are goals, not assertions: a loaded machine misses some, and the table says why others are
missed.
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

FELT = ("latency", "lanes", "at_rest", "handler", "peers", "processes", "between_processes", "hops", "lmdb_files")
"""Latency, copies, start, waiting, handler, processes, stores and the network: what a user feels."""
SECTIONS = (*FELT, "zenoh_network", "startup", "records_as_bytes", "stores", "coordinates")


def shown(value: float, unit: str) -> str:
    """Return a figure as people read it."""
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def table(rows: list[Row]) -> str:
    """Return the rows as lines, with what each states about durability and loss below it."""
    lines = []
    for row in rows:
        met = "" if row.met is None else ("met" if row.met else "MISSED")
        figures = f"{shown(row.figure, row.unit)} : {shown(row.reference_figure, row.unit)}"
        spread = f"({row.spread})" if row.spread else ""
        lines.append(f"{row.name:<66} {figures:>32}  x{row.ratio:<6.3g} {spread:<16} {row.goal:<10} {met}")
        lines.append(f"    beside: {row.reference}")
        if row.met is False and row.reason:
            lines.append(f"    missed since: {row.reason}")
        lines.append(f"    durable: {row.durability}; lost: {row.lost}")
    return "\n".join(lines)


def counted(rows: list[Row]) -> str:
    """Return how many goals were met, and the names of those missed."""
    wanted = [row for row in rows if row.met is not None]
    missed = [row.name for row in wanted if not row.met]
    return f"{len(wanted) - len(missed)} of {len(wanted)} goals met" + "".join(
        f"\n    missed: {name}" for name in missed
    )


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
    print(table(rows), *notes, counted(rows), machine, sep="\n")
    plain = json.dumps({"machine": machine, "notes": notes, "rows": [attrs.asdict(row) for row in rows]}, indent=2)
    if arguments.json:
        arguments.json.write_text(plain)
    else:
        print(plain)


if __name__ == "__main__":
    main()
