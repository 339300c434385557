"""Kill processes that write to a store, one after each of their system calls in turn."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
import warnings
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from penstock.store import SupportsTransaction
from penstock.testing.store_case import StoreCase

_IN_A_TURN = 3
"""Records of a turn: one is synced first, and two are written while the steps are counted."""

_SYSTEM = frozenset({"_io", "_socket", "_sqlite3", "fcntl", "io", "mmap", "posix", "sqlite3"})
_NO_SYSTEM = sys.stdlib_module_names | {"attr", "attrs", "msgspec", "numpy"}


def die_step_by_step(case: StoreCase, directory: Path, turns: int) -> None:
    """Run one process that writes to its end, then others, each killed a step later; print the records written and
    those synced.

    A step is a call of a function that calls the operating system or a library in C; if there are none, any call of a
    function in C.
    """
    steps, is_any = _turn(case, directory, 0, None)
    turns = min(turns, steps)
    for turn in range(1, turns + 1):
        _turn(case, directory, turn, (1 + (turn - 1) * steps // turns, is_any))
    synced = [1, 2, *range(0, (turns + 1) * _IN_A_TURN, _IN_A_TURN)]
    print(json.dumps({"records": (turns + 1) * _IN_A_TURN, "synced": synced, "steps": steps}), flush=True)


def _turn(case: StoreCase, directory: Path, turn: int, last: tuple[int, bool] | None) -> tuple[int, bool]:
    """Run a turn in a separate process, in which no file of an earlier turn is open."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():  # numpy's threads do not survive a fork, which does no harm here
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        try:
            steps, every = _write(case, directory, turn, last)
            os.write(writer, json.dumps([steps or every, not steps]).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"the process of turn {turn} ended with {status}")
    steps, is_any = json.loads(said) if said else (0, False)
    return steps, is_any


def _write(case: StoreCase, directory: Path, turn: int, last: tuple[int, bool] | None) -> tuple[int, int]:
    """Write the records of a turn and be killed after a step; return the number of system calls, and of all calls."""
    steps = every = 0
    counts = False

    def look(_: FrameType, event: str, function: Any) -> None:
        nonlocal steps, every
        if event != "c_return" or not counts:
            return
        every += 1
        steps += _reaches_out(function)
        if last is not None and (every if last[1] else steps) >= last[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    store: Any = case.make_store(directory)
    threading.setprofile(look)  # writes by its own threads count, too
    store.open()
    keeps_positions = isinstance(store, SupportsTransaction)
    if keeps_positions:
        _check_positions(case, store)
    first, second, third = (case.record(turn * _IN_A_TURN + number) for number in range(_IN_A_TURN))
    store.write([first])
    store.sync()
    counts = True
    sys.setprofile(look)
    store.write([second, third])
    if keeps_positions:
        store.sync_with({"turn": turn})
    else:
        store.sync()
    sys.setprofile(None)
    counts = False
    store.close()
    return steps, every


def _check_positions(case: StoreCase, store: Any) -> None:
    turn = store.positions().get("turn")
    if turn is not None:
        for number in range(turn * _IN_A_TURN, (turn + 1) * _IN_A_TURN):
            assert store.key_of(case.record(number)) in store, (
                f"position {turn} is stored, but record {number} before it is missing"
            )


def _reaches_out(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, ModuleType):
        name = owner.__name__
    else:
        name = (owner if isinstance(owner, type) else type(owner)).__module__ if owner is not None else "builtins"
    root = name.partition(".")[0]
    return root in _SYSTEM or root not in _NO_SYSTEM or function.__name__ == "tofile"
