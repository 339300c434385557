"""Start child processes that work on a store under test; they run `penstock.testing.child`."""

from __future__ import annotations

import contextlib
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.testing.store_case import StoreCase

_PATIENCE_S = 60.0


def _command(case: StoreCase, directory: Path, action: str, argument: int) -> tuple[list[str], dict[str, str]]:
    cls = type(case)
    if "<locals>" in cls.__qualname__:
        pytest.fail(
            f"{cls.__qualname__} is defined in a function, where no child process finds it: move it to its module"
        )
    file = inspect.getfile(cls)
    arguments = [file, cls.__module__, cls.__qualname__, str(directory), action, str(argument)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return [sys.executable, "-m", "penstock.testing.child", *arguments], {**os.environ, "PYTHONPATH": path}


def run_child(case: StoreCase, directory: Path, action: str, argument: int) -> subprocess.CompletedProcess[str]:
    """Run one action to its end, for at most a minute."""
    command, environment = _command(case, directory, action, argument)
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_PATIENCE_S, stdin=subprocess.DEVNULL
    )


@contextlib.contextmanager
def child(case: StoreCase, directory: Path, action: str, argument: int) -> Iterator[subprocess.Popen[str]]:
    """Start an action with pipes to it; it is killed when the block ends."""
    command, environment = _command(case, directory, action, argument)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
