"""The tutorials are followed to the letter, each in an empty directory: files are written, commands typed, in order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import zipfile
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
    pages = ["1-first-pipeline.md", "2-your-own-store.md", "3-your-own-source.md"]
    assert [page.name for page in sorted(PAGES.glob("*.md"))] == pages


def test_first_pipeline(tmp_path):
    """The first tutorial does and prints what it says."""
    follow((PAGES / "1-first-pipeline.md").read_text(encoding="utf-8"), tmp_path)
    assert len(list((tmp_path / "archive").glob("*.npy"))) == 10
    assert (tmp_path / "few.log").stat().st_size


def test_your_own_source(tmp_path):
    """The camera of the third tutorial is opened again, goes on with its numbers, and loses no frame."""
    follow((PAGES / "3-your-own-source.md").read_text(encoding="utf-8"), tmp_path)
    assert [path.stem for path in sorted(tmp_path.glob("hall/*.npy"))] == [f"{number:03d}" for number in range(1, 13)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_your_own_store(tmp_path, wheels):  # noqa: F811 - the fixture
    """A store written by following the tutorial alone passes the contract, is listed, and works by name and as TOML."""
    follow(
        (PAGES / "2-your-own-store.md").read_text(encoding="utf-8"),
        tmp_path,
        PIP_CONSTRAINT=str(ROOT / "constraints.txt"),
        PIP_FIND_LINKS=str(wheels.resolve()),
        PIP_ONLY_BINARY="penstock",
        PIP_DISABLE_PIP_VERSION_CHECK="1",
    )
    assert (tmp_path / "frames.sqlite").is_file()
    assert (tmp_path / "notes.sqlite").is_file()
    with zipfile.ZipFile(next(wheels.glob("penstock-[0-9]*.whl"))) as wheel:
        ours = wheel.read("penstock/cli/new.py")
    installed = [path.read_bytes() for path in tmp_path.glob("*/lib/python*/site-packages/penstock/cli/new.py")]
    assert installed == [ours, ours], "another package of the name was installed into one of the two environments"
