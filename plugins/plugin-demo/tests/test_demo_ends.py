"""However the demo ends, both processes end, and files with final names are complete."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Started = Callable[..., "subprocess.Popen[str]"]
ENOUGH = 100


def wait_for(what: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    """Wait until it is true; processes that do not know this one send no event."""
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def child_of(process: subprocess.Popen[str]) -> int:
    """Return the process id of process 1."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1, children
    return int(children[0])


def is_gone(pid: int) -> bool:
    """Return whether the process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def stored(directory: Path) -> list[Path]:
    """Return the frames with final names."""
    return list(directory.glob("*/frames/*/*.npy"))


def assert_all_whole(directory: Path) -> None:
    """Assert that each file with a final name is a complete frame, and that only the index is beside them."""
    files = [path for path in directory.glob("run-*/frames/**/*") if path.is_file() and path.parent.name != ".index"]
    assert files
    assert {np.load(path).shape for path in files} == {(144, 176, 3)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_ctrl_c_ends_both_processes(started_demo: Started, carphone: Path, tmp_path: Path, number: int) -> None:
    """Ctrl-C or SIGTERM drains process 2 and ends process 1; the exit status is 130 and all frames are complete."""
    out = tmp_path / "out"
    process = started_demo("--video", carphone, "--loop", 1000, "--out", out)
    wait_for(lambda: len(stored(out)) > ENOUGH)
    publisher = child_of(process)
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert "the counters add up" in said
    assert is_gone(publisher)
    assert_all_whole(out)


def test_a_killed_publisher_is_reported(started_demo: Started, carphone: Path, tmp_path: Path) -> None:
    """If process 1 is killed, process 2 ends within a minute, reports it, and its exit status is not 0."""
    out = tmp_path / "out"
    process = started_demo("--video", carphone, "--loop", 1000, "--out", out)
    wait_for(lambda: len(stored(out)) > ENOUGH)
    os.kill(child_of(process), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "process 1" in errors
    assert "Traceback" not in errors
    assert_all_whole(out)


def test_a_publisher_ends_with_its_demo(started_demo: Started, carphone: Path, tmp_path: Path) -> None:
    """If process 2 is killed, process 1 ends, and all stored frames are complete."""
    out = tmp_path / "out"
    process = started_demo("--video", carphone, "--loop", 1000, "--out", out)
    wait_for(lambda: len(stored(out)) > ENOUGH)
    publisher = child_of(process)
    process.kill()
    process.communicate()
    wait_for(lambda: is_gone(publisher))
    files = [path for path in stored(out) if not path.name.startswith(".")]
    assert {np.load(path).shape for path in files} == {(144, 176, 3)}
