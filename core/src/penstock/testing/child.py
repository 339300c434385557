"""The child process of the store tests: `python -m penstock.testing.child FILE MODULE CLASS DIRECTORY …`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock.testing.full_disk import fill_disk
from penstock.testing.steps import die_step_by_step
from penstock.testing.store_case import StoreCase


def sync_and_die(case: StoreCase, directory: Path, count: int) -> None:
    """Write, sync, and be killed."""
    store = case.make_store(directory)
    store.open()
    records = case.records(count)
    store.write(records[: count // 2])
    store.write(records[count // 2 :])
    store.sync()
    os.kill(os.getpid(), signal.SIGKILL)


def sync_with_and_die(case: StoreCase, directory: Path, count: int) -> None:
    """Write, sync with a position, and be killed."""
    store: Any = case.make_store(directory)
    store.open()
    store.write(case.records(count))
    store.sync_with({"source": count})
    os.kill(os.getpid(), signal.SIGKILL)


def write_for_ever(case: StoreCase, directory: Path, _: int) -> None:
    """Write, and print after each sync the number of durable records, until killed."""
    store = case.make_store(directory)
    store.open()
    number = 0
    while True:
        for _turn in range(3):
            store.write([case.record(number + offset) for offset in range(5)])
            number += 5
        store.sync()
        print(number, flush=True)


def read_live(case: StoreCase, directory: Path, _: int) -> None:
    """For each line of input, check that so many records are present, and print their number."""
    store: Any = case.make_reader(directory)
    store.open()
    for line in sys.stdin:
        count = int(line)
        case.assert_holds(store, case.records(count))
        print(len(store), flush=True)
    store.close()


def write_channel(case: StoreCase, directory: Path, number: int) -> None:
    """Write a separate channel."""
    store = case.make_store(directory)
    store.open()
    for record in case.records(100, channel=f"writer {number}"):
        store.write([record])
    store.close()


ACTIONS: dict[str, Callable[[StoreCase, Path, int], None]] = {
    action.__name__: action
    for action in (
        sync_and_die,
        sync_with_and_die,
        die_step_by_step,
        write_for_ever,
        fill_disk,
        read_live,
        write_channel,
    )
}


def _load(file: str, module: str, qualname: str) -> Any:
    try:
        found: Any = importlib.import_module(module)
    except ImportError:
        # tests are often outside any package, and so can be imported only by file
        spec = importlib.util.spec_from_file_location(module, file)
        assert spec is not None, f"cannot load {file}"
        assert spec.loader is not None, f"cannot load {file}"
        found = importlib.util.module_from_spec(spec)
        sys.modules[module] = found
        spec.loader.exec_module(found)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found


def main(arguments: list[str]) -> None:
    """Run the action named by the arguments."""
    file, module, qualname, directory, action, argument = arguments
    ACTIONS[action](_load(file, module, qualname)(), Path(directory), int(argument))


if __name__ == "__main__":
    main(sys.argv[1:])
