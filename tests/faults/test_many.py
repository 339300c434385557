"""A long run needs no more memory than a short one."""

from __future__ import annotations

import json

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_million_records_in_flat_memory(start, tmp_path, many_or_few):
    """Behind its first tenth, a run of small records over two lanes grows by less than 4 MiB, however long it is."""
    count = many_or_few(10_000_000, 1_000_000)
    child = start("many", count)
    out, errors = child.communicate(timeout=800)
    assert child.returncode == 0, errors
    *marks, _ = out.splitlines()
    sizes = [int(line) for line in marks]
    assert len(sizes) == 10
    assert sizes[-1] - sizes[0] < 4096, f"resident KiB after each tenth: {sizes}"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["received"] == report["stored"] == count
    assert report["balanced"]
