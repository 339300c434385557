"""How long a process takes until penstock is there, beside one that does nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from measure import TURNS, Row, medians


def start(*command: str) -> None:
    """Run a process to its end."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def rows(scale: float) -> Iterator[Row]:
    """Measure."""
    turns = max(TURNS, int(20 * scale))
    script = str(Path(sys.executable).with_name("penstock"))
    if shutil.which(script) is None:
        raise SystemExit(f"{script} is not there: install penstock into the environment that runs this")
    for name, command in (
        ("import penstock", (sys.executable, "-c", "import penstock")),
        ("penstock plugins", (script, "plugins")),
    ):
        seconds = medians(lambda it=command: start(*it), lambda: start(sys.executable, "-c", ""), turns)  # type: ignore[misc]  # bound now
        bare = [each * 1000 for each in seconds.theirs]
        over = [ours * 1000 - theirs for ours, theirs in zip(seconds.ours, bare, strict=True)]
        name = f"{name}, over bare Python"
        yield Row(name=name, reference="bare Python", unit="ms", ours=over, theirs=bare, durability="-", lost="-")
