"""What users write is checked by their type checker: right programs pass, and each wrong line is found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import mypy.version  # noqa: F401 - without it, the output below would be empty
import pytest

HERE = Path(__file__).parent
GOOD, WRONG = HERE / "good.py", HERE / "wrong.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return the lines of each program in which mypy finds an error, with what it says."""
    cache = tmp_path_factory.mktemp("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    command += [f"--cache-dir={cache}", f"--config-file={cache / 'none.ini'}", "--no-pretty"]
    (cache / "none.ini").write_text("[mypy]\n", encoding="utf-8")
    done = subprocess.run([*command, str(GOOD), str(WRONG)], capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    said: dict[str, dict[int, str]] = {GOOD.name: {}, WRONG.name: {}}
    for line in done.stdout.splitlines():
        match = re.match(r"(.+?):(\d+): error: (.*)", line)
        if match:
            said.setdefault(Path(match[1]).name, {})[int(match[2])] = match[3]
    return said


def test_right_programs_type_check(found):
    """Every form of source, decoder, processor, store, edge and `>>` that the documentation shows type-checks."""
    assert found[GOOD.name] == {}


def test_wrong_programs_do_not_type_check(found):
    """Each line that is marked as wrong has an error, and no other line has."""
    lines = WRONG.read_text(encoding="utf-8").splitlines()
    marked = {number for number, line in enumerate(lines, 1) if "# wrong: " in line}
    assert len(marked) > 30
    assert {lines[number - 1] for number in marked - found[WRONG.name].keys()} == set()
    assert {lines[number - 1] for number in found[WRONG.name].keys() - marked} == set()
