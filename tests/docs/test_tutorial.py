"""The tutorials are followed to the letter, each in an empty directory: files are written, commands typed, in order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..packaging.conftest import wheels  # noqa: F401, TID252 - a fixture; the tests are in no package

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "tutorial"

BLOCK = re.compile(
    r"(?P<before>[^\n]*(?:\n[^\n]+)*)\n\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


def script(page: str) -> tuple[str, list[tuple[str, list[str]]]]:
    """Return a page as a script for bash, and what each of its commands must print (parts of lines)."""
    lines = ["set -eu"]
    shown: list[tuple[str, list[str]]] = []
    for block in BLOCK.finditer(page):
        if block["language"] == "console":
            for command, output in commands(block["text"]):
                lines += [f"echo {shlex.quote(f'--- {len(shown)}')}", command]
                shown.append((command, output))
            continue
        named = re.search(r"(Write|Add to the end of)\s+`([^`]+)`:$", block["before"])
        assert named, f"the page does not say where this goes:\n{block['text'][:200]}"
        arrow = ">" if named[1] == "Write" else ">>"
        lines.append(f"cat {arrow} {shlex.quote(named[2])} <<'END OF BLOCK'\n{block['text']}END OF BLOCK")
    return "\n".join(lines) + "\n", shown


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a console block, with the lines shown below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *output = part.splitlines()
        yield command, output


def follow(page: str, directory: Path, **environment: str) -> None:
    """Do what a page says, and fail unless each command succeeds and prints what the page shows."""
    text, shown = script(page)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    plain |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200", **environment}
    done = subprocess.run(["bash"], input=text, cwd=directory, env=plain, capture_output=True, text=True, timeout=500)
    printed = dict(re.findall(r"^--- (\d+)\n(.*?)(?=^--- \d+$|\Z)", done.stdout, re.DOTALL | re.MULTILINE))
    reached = shown[len(printed) - 1][0] if printed else "the first command"
    assert done.returncode == 0, f"at `{reached}`:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert len(printed) == len(shown)
    for number, (command, output) in enumerate(shown):
        for line in output:
            assert " ".join(line.split()) in " ".join(printed[str(number)].split()), (
                f"`{command}` did not print {line!r}"
            )


def test_every_tutorial_is_followed():
    """There is a test for each page of the tutorial."""
    assert [page.name for page in sorted(PAGES.glob("*.md"))] == ["1-first-pipeline.md", "2-your-own-store.md"]


def test_first_pipeline(tmp_path):
    """The first tutorial does and prints what it says."""
    follow((PAGES / "1-first-pipeline.md").read_text(encoding="utf-8"), tmp_path)
    assert len(list((tmp_path / "archive").glob("*.npy"))) == 10
    assert (tmp_path / "few.log").stat().st_size


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_your_own_store(tmp_path, wheels):  # noqa: F811 - the fixture
    """A store written by following the tutorial alone passes the contract, is listed, and works by name and as TOML."""
    (core,) = wheels.resolve().glob("penstock-[0-9]*.whl")
    constraints = tmp_path / "constraints.txt"
    # By its address, so that no other package of this name can be taken for it.
    constraints.write_text(f"{(ROOT / 'constraints.txt').read_text()}\npenstock @ {core.as_uri()}\n")
    directory = tmp_path / "reader"
    directory.mkdir()
    follow(
        (PAGES / "2-your-own-store.md").read_text(encoding="utf-8"),
        directory,
        PIP_CONSTRAINT=str(constraints),
        PIP_DISABLE_PIP_VERSION_CHECK="1",
    )
    assert (directory / "frames.sqlite").is_file()
    assert (directory / "notes.sqlite").is_file()
