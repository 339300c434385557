"""Fake installed distributions: real metadata and real modules in a directory of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from penstock.plugins import Plugins
from penstock.plugins.report import normalised

HEADER = "from penstock.component import Component\nfrom penstock.hookspecs import hookimpl\n"
GOOD = """
@hookimpl
def penstock_stores():
    return [Component({name!r}, "{package}.store:GoodStore", summary="keeps things")]
"""


class Site:
    """A directory as an installer would leave it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)

    def add(
        self,
        name: str,
        hooks: str | None = None,
        *,
        version: str = "1.0",
        group: str = "penstock.v1",
        entry: str | None = None,
        requires: tuple[str, ...] = (),
        module: str = "hooks",
    ) -> str:
        """Install a distribution whose hooks are this source, or that offers one store; return its package's name."""
        package = name.lower().replace("-", "_").replace(".", "_")
        source = (
            GOOD.format(name=normalised(name).removeprefix("penstock-"), package=package) if hooks is None else hooks
        )
        self.write(f"{package}/__init__.py", "")
        self.write(f"{package}/{module}.py", HEADER + dedent(source))
        self.write(f"{package}/store.py", "class GoodStore:\n    pass\n")
        self.metadata(name, version, entry or f"[{group}]\nmain = {package}.{module}\n", requires=requires)
        return package

    def metadata(self, name: str, version: str, entry_points: str, *, requires: tuple[str, ...] = ()) -> None:
        """Write what an installer notes of a distribution."""
        info = f"{name.replace('-', '_')}-{version}.dist-info"
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        self.write(f"{info}/METADATA", "\n".join([*lines, *(f"Requires-Dist: {each}" for each in requires)]) + "\n")
        self.write(f"{info}/entry_points.txt", entry_points)

    def write(self, path: str, text: str) -> None:
        """Write a file below the directory."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text, encoding="utf-8")

    def discover(self, **how: object) -> Plugins:
        """Find what is installed here, and nothing else."""
        return Plugins.discover([str(self.root)], **how)  # type: ignore[arg-type]  # passed on as it is


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Give an empty directory of distributions, which is on `sys.path` for the test; modules from it are forgotten."""
    for name in ("PENSTOCK_WITHOUT", "PENSTOCK_TRACE"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in sys.modules if name.startswith("penstock_")]:
        monkeypatch.delitem(sys.modules, name)  # a real plugin must not be taken for the fake of its name
    before = set(sys.modules)
    here = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(str(here.root))
    yield here
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


class Shell:
    """Runs `penstock` in a process of its own, where only the fakes and penstock itself are plugins."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.others = {report.name for report in Plugins.discover(sys.path)} - {"penstock"}
        path = os.pathsep.join([str(site.root), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.environment = {**os.environ, "PYTHONPATH": path, "PENSTOCK_WITHOUT": ",".join(self.others)}
        self.command = [sys.executable, "-c", "from penstock.cli import main; main()"]

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run to the end, and return status and output."""
        return subprocess.run(
            [*self.command, *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def shell(site: Site, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Give what runs `penstock` as a user would."""
    return Shell(site, monkeypatch)
