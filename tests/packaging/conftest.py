"""Wheels, built once, and empty environments to install them into."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = ("core", "plugin-demo", "plugin-kafka-av", "plugin-lmdb", "plugin-npy", "plugin-shm", "plugin-zenoh")


@attrs.frozen
class Environment:
    """An environment of its own, with nothing but what was installed into it."""

    path: Path

    def run(self, *command: str, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment, away from the checkout, and return what it printed."""
        done = subprocess.run(
            [str(self.path / "bin" / command[0]), *command[1:]],
            cwd=cwd or self.path,
            env=_plain_environment(),
            capture_output=True,
            text=True,
            timeout=100,
        )
        if check and done.returncode:
            pytest.fail(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def distributions(self) -> set[str]:
        """Return the names of the distributions that are installed here."""
        script = "from importlib.metadata import distributions as d\nprint(*{x.name.lower() for x in d()})"
        return set(self.run("python", "-c", script).stdout.split())


def _plain_environment() -> dict[str, str]:
    ours = ("PYTHONPATH", "PYTHONSAFEPATH", "VIRTUAL_ENV", "PENSTOCK_WITHOUT", "COLUMNS", "FORCE_COLOR")
    return {name: value for name, value in os.environ.items() if name not in ours}


def _pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments],
        env=_plain_environment(),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if done.returncode:
        pytest.fail(f"pip {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that holds one wheel of each distribution; those that nox has built, if it has."""
    if os.environ.get("PENSTOCK_WHEELS"):
        return Path(os.environ["PENSTOCK_WHEELS"])
    directory = tmp_path_factory.mktemp("wheels")
    sources = ["core" if name == "core" else f"plugins/{name}" for name in DISTRIBUTIONS]
    _pip("wheel", "--no-deps", f"--wheel-dir={directory}", *(str(ROOT / source) for source in sources))
    return directory


@pytest.fixture(scope="session")
def make_environment(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Callable[[Sequence[str]], Environment]:
    """A function that makes an environment with these requirements: ours from the wheels, others from the index."""

    def make(requirements: Sequence[str]) -> Environment:
        path = tmp_path_factory.mktemp("environment")
        venv.create(path, with_pip=False, symlinks=True)
        _pip(f"--python={path / 'bin' / 'python'}", "install", "--no-compile", f"--find-links={wheels}",
             f"--constraint={ROOT / 'constraints.txt'}", *requirements)  # fmt: skip
        return Environment(path)

    return make


@pytest.fixture(scope="session")
def core_and_npy(make_environment: Callable[[Sequence[str]], Environment]) -> Environment:
    """An environment with the core and penstock-npy, and nothing else that penstock does not require."""
    return make_environment(["penstock", "penstock-npy"])
