"""The Python of every page runs twice in a row as a program, cell by cell in IPython, and typed into `python -i`."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
LEFT_OUT = {
    "docs/how-to/from-comux.md": "it needs a Kafka broker, and has a test of its own beside one",
    "docs/reference/hooks.md": "each block is a plugin's module, and has a test of its own",
    "docs/reference/testing.md": "each block is a module of tests, and has a test of its own",
    "docs/tutorial/2-your-own-store.md": "its blocks are the files of a package, and the page has a test of its own",
}
BLOCK = re.compile(r"(?P<before>[^\n]*(?:\n[^\n]+)*)\n\n```python\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)


@attrs.frozen
class Program:
    """The Python of a page, as cells; a file that a page tells its reader to write is a program of its own."""

    name: str
    cells: list[str]
    status: int = 0


def programs() -> list[Program]:
    """Return the programs of all pages."""
    found = []
    for path in PAGES:
        page = str(path.relative_to(ROOT))
        if page in LEFT_OUT:
            continue
        cells = []
        for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
            named = re.search(r"Write\s+`(\w+\.py)`:$", block["before"])
            if named:
                status = 1 if "SystemExit" in block["text"] else 0
                found.append(Program(f"{page}:{named[1]}", [block["text"]], status))
            else:
                cells.append(block["text"])
        if cells:
            found.append(Program(page, cells))
    return found


def run(directory: Path, *arguments: str, typed: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in a directory, with channels that are not shared with other tests."""
    environment = {**os.environ, "PENSTOCK_SHM_DIR": str(directory / "shm"), "IPYTHONDIR": str(directory / "ipython")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=directory, input=typed, capture_output=True, text=True, timeout=100,
        env=environment,
    )  # fmt: skip


PROGRAMS = pytest.mark.parametrize("program", programs(), ids=lambda program: program.name)


def test_every_page_is_there():
    """The pages with examples are found; those that are left out exist, and have a reason."""
    names = {program.name for program in programs()}
    assert {"README.md", "docs/tutorial/1-first-pipeline.md:first.py", "docs/how-to/read-back.md"} <= names
    assert all((ROOT / page).is_file() for page in LEFT_OUT)


@PROGRAMS
def test_as_a_program_twice(program, tmp_path):
    """A page's Python, as a program, does the same the second time: it stores what it stored, and nothing fails."""
    (tmp_path / "page.py").write_text("\n".join(program.cells), encoding="utf-8")
    seen = []
    for _ in range(2):
        done = run(tmp_path, "-W", "error", "page.py")
        assert done.returncode == program.status, done.stderr
        seen.append(re.sub(r"; dead letters: \S+", "", done.stderr))
        assert "already" not in done.stderr
    assert seen[0] == seen[1], "the second time is not like the first"


CELLS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in json.load(open("cells.json")):
    result = shell.run_cell(cell, store_history=True)
    error = result.error_before_exec or result.error_in_exec
    if error is not None and not isinstance(error, SystemExit):
        sys.exit(3)
"""


@PROGRAMS
def test_as_a_notebook(program, tmp_path):
    """A page's blocks run one after the other as the cells of a notebook."""
    pytest.importorskip("IPython")
    (tmp_path / "cells.json").write_text(json.dumps(program.cells), encoding="utf-8")
    (tmp_path / "notebook.py").write_text(CELLS, encoding="utf-8")
    done = run(tmp_path, "notebook.py")
    assert done.returncode == 0, done.stdout + done.stderr


def typed_lines(text: str) -> str:
    """Return what a person types: no empty line inside a statement, and one behind each that is indented."""
    lines = text.splitlines()
    found = []
    for statement in ast.parse(text).body:
        first = min([statement.lineno, *(each.lineno for each in getattr(statement, "decorator_list", ()))])
        inside = {
            line
            for part in ast.walk(statement)
            if isinstance(part, (ast.Constant, ast.JoinedStr))
            for line in range(part.lineno + 1, (part.end_lineno or 0) + 1)
        }
        numbers = range(first, (statement.end_lineno or first) + 1)
        found += [lines[number - 1] for number in numbers if lines[number - 1].strip() or number in inside]
        found += [""] if hasattr(statement, "body") else []
    return "\n".join(found) + "\n"


@PROGRAMS
def test_typed(program, tmp_path):
    """A page's blocks can be typed into `python -i`, line by line."""
    typed = typed_lines("\n".join(program.cells))
    if program.status:
        typed = re.sub(r"^raise SystemExit.*$", "", typed, flags=re.MULTILINE)
    done = run(tmp_path, "-i", "-q", typed=f"{typed}print('to the end')\n")
    assert "to the end" in done.stdout, done.stderr
    said = re.sub(r"^(>>> |\.\.\. )+", "", done.stderr, flags=re.MULTILINE)
    assert not re.search(r"^(Traceback|\w*Error\b)", said, re.MULTILINE), done.stderr
