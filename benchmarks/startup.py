"""How long a process takes until penstock is there, beside one that does nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from measure import Row, medians


def start(*command: str) -> None:
    """Run a process to its end."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def rows(scale: float) -> Iterator[Row]:
    """Measure."""
    turns = max(5, int(20 * scale))
    script = str(Path(sys.executable).with_name("penstock"))
    if shutil.which(script) is None:
        raise SystemExit(f"{script} is not there: install penstock into the environment that runs this")
    for name, command, goal_ms in (
        ("import penstock", (sys.executable, "-c", "import penstock"), 80.0),
        ("penstock plugins", (script, "plugins"), 200.0),
    ):
        seconds, bare = medians(lambda it=command: start(*it), lambda: start(sys.executable, "-c", ""), turns)  # type: ignore[misc]  # bound now
        over_ms = (seconds - bare) * 1000
        yield Row(
            name=f"{name}, over bare Python",
            reference="bare Python",
            unit="ms",
            figure=over_ms,
            reference_figure=bare * 1000,
            ratio=bare / seconds,
            goal=f"<= {goal_ms:.0f} ms",
            met=over_ms <= goal_ms,
            durability="-",
            lost="-",
        )
