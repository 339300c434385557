"""Whether a process is alive: zombies are not, and the start time distinguishes processes of one id."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.processes import is_alive, start_of

posix_only = pytest.mark.skipif(os.name != "posix", reason="on Windows every process counts as alive")


def test_this_process_is_alive():
    """This process and its parent are alive, with a start that does not change."""
    assert is_alive(os.getpid())
    assert is_alive(os.getppid())
    assert start_of(os.getpid()) == start_of(os.getpid()) != ""


@posix_only
def test_a_process_of_another_user_is_alive():
    """Process 1, which an ordinary user may not signal, is alive."""
    assert is_alive(1)


@posix_only
def test_an_ended_process_is_not_alive():
    """A process that has ended and was waited for is not alive."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert not is_alive(child.pid)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="zombies are recognised by /proc")
def test_a_zombie_is_not_alive():
    """A process that has ended is not alive, also while its parent has not waited for it."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    try:
        assert Path(f"/proc/{child.pid}").exists()
        assert not is_alive(child.pid)
        assert start_of(child.pid) == ""
    finally:
        child.wait()


@pytest.mark.parametrize("process", [0, -1, 2**31, 10**30])
def test_no_process_has_such_an_id(process):
    """Numbers that are not process ids match no process; -1 and 0 do not signal a group."""
    assert not is_alive(process)
