"""The reference of channels, live changes and logging is right: its Python runs, its tables are the code's."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from penstock import Run
from penstock.run.control import GIVEN

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def first_cells(page, heading):
    """Return the first cells of the table below a heading."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    return re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)


def read(name):
    """Return the text of a page."""
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["channels.md", "live-changes.md", "logging.md"])
def test_the_python_of_a_page_runs(page, tmp_path):
    """The Python blocks of a page run one after the other as they stand, in an empty directory, without a warning."""
    blocks = re.findall(r"^```python\n(.*?)^```", read(page), re.DOTALL | re.MULTILINE)
    assert blocks
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    command = [sys.executable, "-W", "error", script.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, env=dict(os.environ))
    assert done.returncode == 0, done.stderr


def test_methods_that_change_a_run():
    """Each method of the table is one of `Run`, with its parameters."""
    for call in first_cells(read("live-changes.md"), "Methods"):
        name, _, parameters = call.rstrip(")").partition("(")
        signature = str(inspect.signature(getattr(Run, name)).replace(return_annotation=inspect.Signature.empty))
        said = ", ".join(["self", *([parameters] if parameters else [])])
        assert re.sub(r": '[^']*'", "", signature) == f"({said})"


def test_actions_of_a_control_channel():
    """The table has the actions that penstock knows, in the order of the code."""
    assert tuple(first_cells(read("live-changes.md"), "Control channel")) == GIVEN


def loggers():
    """Return the levels that each logger of the core is called with, by the name of the logger."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "core" / "src").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = ".".join(path.relative_to(ROOT / "core" / "src").with_suffix("").parts)
        names = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger") and node.args:
                names[ast.unparse(node)] = (
                    ast.literal_eval(node.args[0]) if "__name__" not in ast.unparse(node) else module
                )
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner, level = ast.unparse(node.func.value), node.func.attr
                if owner == "_log" or owner in names:
                    name = names.get(owner) or next(iter(names.values()))
                    if level in ("debug", "info", "warning", "error", "exception", "critical"):
                        found.setdefault(name, set()).add(level.replace("exception", "error"))
    return found


def test_every_logger_is_on_the_page():
    """The table has each logger of the core, with the levels that it logs at."""
    (section,) = re.findall(r"^## Loggers\n(.*?)(?=^## )", read("logging.md"), re.DOTALL | re.MULTILINE)
    said = dict(re.findall(r"^\| `([\w.]+)` \| ([\w, ]+) \|", section, re.MULTILINE))
    assert {name: set(levels.split(", ")) for name, levels in said.items()} == loggers()


def test_the_index_links_every_page_of_the_reference():
    """Each page of the reference is in the index of the documentation."""
    index = (REFERENCE.parent / "index.md").read_text(encoding="utf-8")
    assert [page.name for page in REFERENCE.glob("*.md") if f"(reference/{page.name})" not in index] == []
