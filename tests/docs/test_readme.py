"""What the READMEs say is true: their Python runs, CI runs their commands, their links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("core/README.md"))]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """Return what a reader is told to type."""
    return [line[2:] for block in blocks(text, "console") for line in block.splitlines() if line.startswith("$ ")]


def name_of(path: Path) -> str:
    """Return how a test calls this file."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", READMES, ids=name_of)
def test_the_python_of_a_readme_runs(path: Path, tmp_path: Path) -> None:
    """Each Python block of a README runs as it stands, in an empty directory, and leaves the files that it promises."""
    (script,) = blocks(path.read_text(encoding="utf-8"), "python")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert list(tmp_path.rglob("*.npy"))


def test_ci_runs_the_command_that_the_readme_gives_for_the_tests() -> None:
    """The line that a newcomer copies to run the tests is, letter by letter, a line of `.ci/run`."""
    (command,) = [command for command in commands(README) if "nox -s tests" in command]
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_readme_installs_for_the_demo_what_the_demo_needs() -> None:
    """The line that a newcomer copies to see the demo installs directories that exist and ends with the demo."""
    (command,) = [command for command in commands(README) if command.endswith("penstock demo")]
    named = {ROOT / name for name in re.findall(r"\./(\S+)", command)}
    needed = tomllib.loads((ROOT / "plugins/plugin-demo/pyproject.toml").read_text(encoding="utf-8"))
    ours = {re.split("[>=<]", each)[0] for each in needed["project"]["dependencies"] if each.startswith("penstock")}
    assert {path.name.replace("plugin-", "penstock-").replace("core", "penstock") for path in named} == ours | {
        "penstock-demo"
    }


def test_the_readme_lists_every_distribution() -> None:
    """The table of plugins in the README names each distribution of the workspace, and its import name."""
    for path in [ROOT / "core" / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]:
        name = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"]
        assert f"| `{name}` | `{name.replace('-', '_')}` |" in README


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    """A relative link on a page leads to a file of the repository."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_path_in_the_readme_exists() -> None:
    """Where the README says that something lives, something lives."""
    table = README.partition("## Where things live")[2]
    for cell in re.findall(r"`((?:core|plugins|tests|docs)/[^`]*)`", table):
        names = re.search(r"\{(.*)\}", cell)
        for name in names[1].split(",") if names else [""]:
            pattern = re.sub(r"\{.*\}", name, cell).replace("<what>", "*").rstrip("/")
            assert list(ROOT.glob(pattern)), cell
