"""The page about trust is true: its example runs."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "trust.md"


def test_the_example_runs(tmp_path, monkeypatch):
    """All Python of the page runs as it stands, and what it asserts holds."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    exec(compile("\n".join(blocks), PAGE.name, "exec"), {"__name__": "page"})
