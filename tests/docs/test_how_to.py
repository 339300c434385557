"""The how-to guides are right: their Python runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


@pytest.mark.parametrize(
    "page",
    [
        "configuration.md",
        "from-ataraxis.md",
        "from-exengine.md",
        "from-herostools.md",
        "from-improv.md",
        "read-back.md",
        "record-video.md",
        "several-processes.md",
    ],
)
def test_the_python_of_a_guide_runs(page: str, tmp_path: Path) -> None:
    """The Python blocks of a guide run one after the other as they stand, in an empty directory, without a warning."""
    blocks = re.findall(r"^```python\n(.*?)^```", (HOW_TO / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    script = tmp_path / "guide.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PENSTOCK_SHM_DIR": str(tmp_path / "shm")},  # channels of others are not this test's
    )
    assert done.returncode == 0, done.stderr
