"""The page about a run is true: its examples run, one after the other."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "a-run.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All Python of the page runs as it stands, from top to bottom, and what it asserts holds."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    exec(compile("\n".join(blocks), PAGE.name, "exec"), {"__name__": "page"})
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("penstock")]
