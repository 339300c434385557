"""The README says what is true."""

from __future__ import annotations

import re
from pathlib import Path


def test_the_example_runs():
    """The Python of the README runs as it stands."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
