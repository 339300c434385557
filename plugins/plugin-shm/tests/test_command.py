"""`penstock shm ls|clean`, and the leftovers that opening a channel removes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from penstock.record import Record
from penstock_shm import SharedMemoryArray, ShmObjectStore, ShmSource, ShmStore, clean, leftovers, listing
from penstock_shm.directory import to_file_name, to_name


def penstock(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    command = [sys.executable, "-c", "from penstock.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_ls_says_what_there_is_and_who_uses_it(place):
    """`ls` lists channels with their processes, arrays and stores with their sizes, and which are left."""
    assert penstock("shm", "ls").stdout == "Shared memory is empty.\n"
    assert not place.exists() or list(place.iterdir()) == []
    source = ShmSource("lab/camera 1")
    source.open()
    array = SharedMemoryArray.create_array("a", np.zeros(1_000_000, np.uint8))
    store = ShmObjectStore("objects")
    store.open()
    store.put(b"x" * 500_000)
    store.close()
    done = penstock("shm", "ls")
    assert done.stderr == ""
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["channel", "0.0", "MB", "'lab/camera", "1'", "in", "use", "by", str(os.getpid())],
        ["array", "1.0", "MB", "'a'", "in", "use"],
        ["objects", "0.5", "MB", "'objects'", "left"],
    ]
    (found,) = json.loads(penstock("shm", "ls", "channel", "--json").stdout)
    assert (found["name"], found["in_use"], found["processes"]) == ("lab/camera 1", True, [os.getpid()])
    assert penstock("shm", "ls", "files").returncode == 2
    source.close()
    array.destroy()
    store.destroy()


def test_clean_removes_what_nobody_uses(place, start):
    """`clean` lists the entries that it removes, or would remove; entries in use are kept."""
    peer = start("consume", "dead")
    peer.hear()
    source = ShmSource("alive", until_end=True)
    source.open()
    SharedMemoryArray.create_array("left", np.zeros(1000)).disconnect()
    used = SharedMemoryArray.create_array("used", np.ones(1000))
    peer.kill()
    said = ["channel 'dead' (0.0 MB)", "array 'left' (0.0 MB)"]
    assert penstock("shm", "clean", "--dry-run").stdout.splitlines() == [f"would remove {each}" for each in said]
    assert penstock("shm", "clean", "channel").stdout.splitlines() == [f"removed {said[0]}"]
    assert penstock("shm", "clean").stdout.splitlines() == [f"removed {said[1]}"]
    assert penstock("shm", "clean").stdout == "Nothing is left.\n"
    start("produce", "alive", 3, 10).end()
    assert len(source.read(10, 10.0)) > 0
    assert used.read_data(0) == 1
    source.close()
    used.destroy()
    assert listing() == []


def test_a_start_removes_what_dead_runs_left(place, start):
    """Opening a channel removes the channels of dead runs, and arrays that were never finished; nothing else."""
    peers = [start("consume", f"dead {number}") for number in range(3)]
    for peer in peers:
        peer.hear()
    kept = SharedMemoryArray.create_array("kept", np.zeros(10))
    kept.disconnect()
    (place / "array" / ".new-1234").write_bytes(b"half")
    for peer in peers:
        peer.kill()
    assert len(leftovers()) == 5
    store = ShmStore("new")
    store.open()
    assert [(each.kind, each.name) for each in leftovers()] == [("array", "kept")]
    store.close()
    kept.connect()
    kept.destroy()


def test_a_stopped_process_holds_nobody_up(place, start):
    """A directory whose lock a stopped process holds counts as in use, and neither a start nor `ls` waits for it."""
    peer = start("hold_directory", "stuck")
    assert peer.hear() == "locked"
    store = ShmStore("new", wait_for_consumers=0)
    store.open()
    store.write([Record(b"x")])
    store.close()
    assert [(each.name, each.in_use) for each in listing()] == [("stuck", True)]
    assert clean() == []
    peer.kill()
    assert [each.name for each in clean()] == ["stuck"]


@pytest.mark.parametrize("name", ["a", "lab/camera 1", ".", "..", ".hidden", "Ä ö", "%41", "%-x", "x" * 180])
def test_names_come_back(name):
    """The name of a file shows the name of its entry, and is not hidden."""
    assert to_name(to_file_name(name)) == name
    assert not to_file_name(name).startswith(".")
    long = to_file_name(name * 200 + name)
    assert len(long) < 256
    assert to_name(long)
