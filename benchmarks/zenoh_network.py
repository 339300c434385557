"""Records over zenoh beside bare zenoh: the benchmark of the plugin, in processes of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from measure import TURNS, Row

SCRIPT = Path(__file__).parents[1] / "plugins" / "plugin-zenoh" / "benchmarks" / "bench_zenoh.py"


def rows(scale: float) -> Iterator[Row | str]:
    """Measure, each turn in processes of its own. `scale` is the part of the usual turns, of which there are seven."""
    if not importlib.util.find_spec("penstock_zenoh"):
        yield "zenoh_network: not measured, since penstock-zenoh is not installed"
        return
    turns = TURNS if scale >= 1 else max(1, round(TURNS * scale))
    command = [sys.executable, str(SCRIPT), str(turns)]
    for line in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
        found = json.loads(line)
        yield Row(
            name=f"zenoh, {found['case']}", reference="bare zenoh with the same settings", unit="/s",
            ours=found["turns"]["penstock"], theirs=found["turns"]["bare"], durability="none: a network",
        )  # fmt: skip
