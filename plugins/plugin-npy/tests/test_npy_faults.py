"""Disks that are full or have no inodes, directories of others, and processes that are killed."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import penstock as ps
from penstock.errors import CannotConnectToStoreError, CannotGetObjectError, ObjectNotFoundError, StoreError
from penstock.record import Record
from penstock_npy import JsonStore, NpyLogStore, NpyStackStore, NpyStore
from penstock_npy.recover import recover
from penstock_npy.replay.kinds import is_whole

ROUNDS = 100 if os.environ.get("PENSTOCK_FAULTS") == "full" else 5
SIZE = 4 << 20
STORES = {
    "npy": lambda root, **settings: NpyStore(path="{{ channel }}/{{ '%06d' % seq }}.npy", root=root, **settings),
    "npy-sidecar": lambda root, **settings: NpyStore(
        path="{{ channel }}/{{ '%06d' % seq }}.npy", root=root, sidecar="json", **settings
    ),
    "json": lambda root, **settings: JsonStore(path="{{ channel }}/{{ '%06d' % seq }}.json", root=root, **settings),
    "json-lines": lambda root, **settings: JsonStore(path="{{ channel }}.jsonl", root=root, lines=True, **settings),
    "npy-stack": lambda root, **settings: NpyStackStore(path="{{ channel }}.npy", root=root, **settings),
    "npy-log": lambda root, **settings: NpyLogStore(path=root, **settings),
}
stores = pytest.mark.parametrize("name", STORES)
CHILD = """
import sys
import numpy as np
from penstock.record import Record
from penstock_npy import JsonStore, NpyStore

name, root, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
path = "{{ channel }}/{{ '%06d' % seq }}"
if name == "json-lines":
    store = JsonStore(path="{{ channel }}.jsonl", root=root, lines=True, when_exists="skip")
elif name == "json":
    store = JsonStore(path=path + ".json", root=root, when_exists="skip")
else:
    store = NpyStore(path=path + ".npy", root=root, when_exists="skip", sidecar="json" if "-" in name else "index")
store.open()
while True:
    store.write([Record(np.full(1000, n) if "npy" in name else {"n": [n] * 1000}, channel="camera", seq=n,
                        metadata={"n": n}) for n in range(number, number + 5)])
    number += 5
    store.sync()
    print(number, flush=True)
"""
STRANGER = """
import os
from penstock.errors import PenstockError
from penstock_npy import JsonStore, NpyLogStore, NpyStackStore, NpyStore
make = {{
    "npy": lambda root: NpyStore(path="{{{{ seq }}}}.npy", root=root),
    "npy-sidecar": lambda root: NpyStore(path="{{{{ seq }}}}.npy", root=root, sidecar="json"),
    "json": lambda root: JsonStore(path="{{{{ seq }}}}.json", root=root),
    "json-lines": lambda root: JsonStore(path="a.jsonl", root=root, lines=True),
    "npy-stack": lambda root: NpyStackStore(path="a.npy", root=root),
    "npy-log": lambda root: NpyLogStore(path=root),
}}[{name!r}]
store = make({own!r})
store.open()  # imports what another user perhaps may not read
store.close()
os.setgid(65534)
os.setuid(65534)
store = make({root!r})
try:
    store.open()
except PenstockError as error:
    print(type(error).__name__, error)
"""


def record(name, number, size=100_000):
    """Return a record whose data tell its number, and fill `size` bytes."""
    data = {"n": number, "filling": "x" * size} if "json" in name else np.full(size, number % 251, "u1")
    return Record(data, channel="camera", seq=number, metadata={"n": number})


def assert_whole(store, name, numbers):
    """Fail unless the store gives these records back whole."""
    for number in numbers:
        found = store.get(store.key_of(record(name, number)))
        if "json" in name:
            assert found.data["n"] == number
        else:
            assert (found.data == number % 251).all()
            assert found.metadata == {"n": number}


def of_a_channel_each(name, number):
    """Return a record whose channel has no other, so that every store makes files for it."""
    return record(name, number, 100).replace(channel=f"c{number}")


class Disk:
    """A small disk; without the right to mount one, files may not grow."""

    def __init__(self, path, inodes):
        self.path = path
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes={inodes}", "tmpfs", path]
        self.is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self):
        if self.is_mounted:
            with (self.path / "ballast").open("wb", buffering=0) as file:
                file.write(bytes(SIZE - (600 << 10)))
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, self._limits[1]))

    def free(self):
        if self.is_mounted:
            (self.path / "ballast").unlink(missing_ok=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)

    def close(self):
        self.free()
        if self.is_mounted:
            subprocess.run(["umount", "-l", self.path], check=True)


@pytest.fixture
def small_disk(tmp_path):
    """Make small disks, and take them away at the end."""
    disks = []

    def make(inodes=1000):
        path = tmp_path / f"disk{len(disks)}"
        path.mkdir()
        disks.append(Disk(path, inodes))
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()


@pytest.fixture
def tmp_path_of_all():
    """A directory that every user may look into, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="penstock-test-") as directory:
        yield Path(directory)


@stores
def test_a_full_disk(small_disk, name):
    """A full disk is an error that may be tried again and names who was not written; with room again it goes on."""
    disk = small_disk()
    store = STORES[name](disk.path / "out")
    store.open()
    store.write([record(name, 0, 500)])
    disk.fill()
    with pytest.raises(StoreError) as caught:
        store.write([record(name, number) for number in range(1, 20)])
    assert caught.value.retryable
    failed = [each.seq for each, _ in caught.value.failed]
    assert failed
    written = [number for number in range(20) if number not in failed]
    assert len(store) == len(written)
    assert_whole(store, name, written)
    disk.free()
    store.write([record(name, number) for number in failed])
    store.sync()
    assert_whole(store, name, range(20))
    store.close()
    again = STORES[name](disk.path / "out")
    again.open()
    assert len(again) == 20
    assert_whole(again, name, range(20))
    again.close()


@stores
def test_no_inodes(small_disk, name, monkeypatch):
    """A disk without inodes is an error that may be tried again, and leaves nothing that is half a file."""
    disk = small_disk(inodes=16)
    if not disk.is_mounted:
        opened = os.open

        def refuse(path, flags, *rest, **more):
            if flags & (os.O_CREAT | os.O_WRONLY) and len(list(disk.path.rglob("*"))) > 10:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            return opened(path, flags, *rest, **more)

        monkeypatch.setattr("os.open", refuse)
    store = STORES[name](disk.path / "out")
    store.open()
    with pytest.raises(StoreError, match="No space left") as caught:
        store.write([of_a_channel_each(name, number) for number in range(30)])
    assert caught.value.retryable
    failed = {each.seq for each, _ in caught.value.failed}
    written = [number for number in range(30) if number not in failed]
    assert written
    assert len(store) == len(written)
    for number in written:
        found = store.get(store.key_of(of_a_channel_each(name, number)))
        assert found.data["n"] == number if "json" in name else (found.data == number).all()
    store.sync()
    store.close()


@stores
def test_a_directory_of_somebody_else(tmp_path, tmp_path_of_all, name):
    """A directory that this user may not write to is an error when the store is opened, which names it."""
    root = tmp_path_of_all
    root.chmod(0o755)
    if os.getuid():  # without the right to be somebody else
        root.chmod(0o555)
        store = STORES[name](root)
        with pytest.raises(CannotConnectToStoreError, match="may not be written to"):
            store.open()
        return
    script = STRANGER.format(name=name, root=str(root), own=str(tmp_path / "own"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "CannotConnectToStoreError" in done.stdout, done.stderr
    assert f"{root} may not be written to" in done.stdout


@pytest.mark.parametrize("name", ["npy", "npy-sidecar", "json", "json-lines"])
@pytest.mark.timeout(60 * ROUNDS)
def test_killed_at_any_moment(tmp_path, name):
    """After kill -9 all that was synced is whole under its name, no file is cut, and the next run goes on."""
    chance = random.Random(name)
    synced = 0
    for _ in range(ROUNDS):
        command = [sys.executable, "-c", CHILD, name, tmp_path, str(max(0, synced - 5))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            for _ in range(chance.randrange(1, 20)):
                synced = int(child.stdout.readline())
            child.kill()
            synced = max([synced, *(int(line) for line in child.stdout.read().splitlines())])
        store = STORES[name](tmp_path)
        store.open()
        keys = list(store.keys())
        assert len(keys) >= synced
        for number, key in enumerate(keys):
            found = store.get(key)
            assert key == store.key_of(record(name, number))
            assert (found.data["n"] if "json" in name else found.data.tolist()) == [number] * 1000
            assert name == "json" or found.metadata == {"n": number}
        files = [path for path in tmp_path.rglob("*") if path.suffix in (".npy", ".json")]
        assert not [path for path in files if not is_whole(path)]
        store.close()
    assert recover(tmp_path).damaged == {}


@stores
def test_two_runs_on_one_path(tmp_path, name):
    """Stores that are open on one path at the same time lose nothing: both write, or one is told to try again."""
    one, other = STORES[name](tmp_path / "out"), STORES[name](tmp_path / "out")
    one.open()
    other.open()
    one.write([record(name, 0)])
    try:
        other.write([record(name, 1)])
    except StoreError as error:
        assert error.retryable  # noqa: PT017 - raising is optional
        one.close()
        other.write([record(name, 1)])
    assert len(other) == 2
    assert_whole(other, name, [0, 1])
    one.close()
    other.close()


@stores
@pytest.mark.parametrize("channel", ["..", "../up", "/abs", "a\0b", "c" * 300, "end.", "A", "a"])
def test_names_that_lead_elsewhere_cost_only_themselves(tmp_path, name, channel):
    """A channel whose name cannot name a file is refused for good, or kept; its neighbours are kept, none outside."""
    store = STORES[name](tmp_path / "out")
    store.open()
    try:
        store.write([record(name, 0), record(name, 1).replace(channel=channel), record(name, 2)])
    except StoreError as error:
        assert [each.seq for each, _ in error.failed] == [1]  # noqa: PT017 - raising is optional
        assert not error.retryable  # noqa: PT017 - raising is optional
    assert_whole(store, name, [0, 2])
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@stores
@pytest.mark.parametrize("what", ["root", "channel", "index"])
def test_a_directory_that_is_removed_while_running(tmp_path, name, what):
    """A file that is removed under an open store is never a silent loss: it is reported, or written again."""
    root = tmp_path / "out"
    store = STORES[name](root)
    store.open()
    store.write([record(name, 0)])
    gone = {"root": root, "channel": root / "camera", "index": root / ".index"}[what]
    if not gone.exists():  # this store has none
        store.close()
        return
    shutil.rmtree(gone)
    reported = False
    try:
        store.write([record(name, 1)])
        written = True
    except StoreError:
        written, reported = False, True
    try:
        store.sync()
    except StoreError as error:
        assert not error.retryable  # noqa: PT017 - raising is optional
        reported = True
    if what != "index":
        assert reported, "the file of record 0 is gone, and nobody said so"
    with contextlib.suppress(StoreError):
        store.close()
    again = STORES[name](root)
    again.open()
    if written:
        found = again.get(again.key_of(record(name, 1)))
        assert found.data["n"] == 1 if "json" in name else (found.data == 1).all()
    again.write([record(name, 2)])
    again.sync()
    assert_whole(again, name, [2])
    again.close()


@stores
@pytest.mark.parametrize("damage", ["empty", "half", "foreign"])
def test_damaged_files_in_an_archive_cost_only_themselves(tmp_path, name, damage):
    """A file that was emptied, cut or replaced by something else is an error by name, or left out; others are read."""
    root = tmp_path / "out"
    store = STORES[name](root)
    store.open()
    store.write([of_a_channel_each(name, number) for number in range(3)])
    store.close()
    for path in [each for each in root.rglob("*") if each.is_file() and "c1" in str(each.relative_to(root))]:
        content = path.read_bytes()
        if ".index" not in path.parts or name == "json-lines":
            path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "foreign": b"hello" * 50}[damage])
    again = STORES[name](root)
    again.open()
    for number in (0, 2):
        found = again.get(again.key_of(of_a_channel_each(name, number)))
        assert found.data["n"] == number if "json" in name else (found.data == number).all()
    with pytest.raises((CannotGetObjectError, ObjectNotFoundError)) as caught:
        again.get(again.key_of(of_a_channel_each(name, 1)))
    assert name in ("npy-stack", "npy-log", "json-lines") or isinstance(caught.value, CannotGetObjectError)
    again.write([of_a_channel_each(name, 5)])
    again.sync()
    keys = list(again.keys())
    assert {again.key_of(of_a_channel_each(name, number)) for number in (0, 2, 5)} <= set(keys)
    again.close()


@stores
def test_channels_that_differ_in_case_only(tmp_path, name):
    """Channels whose names differ in case only keep their own records."""
    store = STORES[name](tmp_path / "out")
    store.open()
    both = [record(name, 1, 100).replace(channel="Camera"), record(name, 2, 100).replace(channel="camera", seq=1)]
    store.write(both)
    for number, each in enumerate(both, 1):
        found = store.get(store.key_of(each))
        assert (found.data["n"] if "json" in name else int(found.data[0])) == number
    store.close()


@stores
def test_two_runs_of_two_pipelines_on_one_path(tmp_path, name):
    """Two runs that store into one path at the same time, each its own channel, lose nothing and say so."""
    runs = []
    for channel in ("one", "two"):
        these = [record(name, number, 100).replace(channel=channel) for number in range(50)]
        runs.append(ps.Pipeline(ps.source(these) >> ps.store(STORES[name](tmp_path / "out"))).start())
    for run in runs:
        report = run.wait()
        assert report.stored == 50
        assert report.ok
    store = STORES[name](tmp_path / "out")
    store.open()
    assert len(store) == 100
    store.close()


def _memory_mapped(directory):
    np.save(directory / "mapped.npy", np.arange(12, dtype="u2").reshape(3, 4))
    return np.load(directory / "mapped.npy", mmap_mode="r")


GOOD = {
    "memory-mapped": _memory_mapped,
    "big-endian": lambda _: np.arange(5, dtype=">u4"),
    "structured, big-endian": lambda _: np.array([(1, 2.5)], [("a", ">i2"), ("b", "<f8")]),
    "0-d": lambda _: np.array(7, "i8"),
    "empty": lambda _: np.zeros((0, 4), "f4"),
    "Fortran order": lambda _: np.asfortranarray(np.arange(6).reshape(2, 3)),
    "not contiguous": lambda _: np.arange(20).reshape(4, 5)[::2, ::-1],
    "a matrix": lambda _: np.arange(4).reshape(2, 2).view(np.matrix),
}
BAD = {
    "objects": lambda _: np.array([{}, None], dtype=object),
    "structured with objects": lambda _: np.array([(1, None)], [("a", "i2"), ("b", object)]),
    "masked": lambda _: np.ma.array([1, 2], mask=[True, False]),
}
of_arrays = pytest.mark.parametrize("name", [name for name in STORES if "json" not in name])


@of_arrays
@pytest.mark.parametrize("kind", GOOD)
def test_arrays_of_every_kind_come_back(tmp_path, name, kind):
    """Values, dtype with its byte order, and shape are those that were written, also after the next run has begun."""
    array = GOOD[kind](tmp_path)
    store = STORES[name](tmp_path / "out")
    store.open()
    store.write([Record(array, channel="camera", seq=3)])
    store.close()
    store = STORES[name](tmp_path / "out")
    store.open()
    (key,) = store.keys()
    found = store.get(key).data
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.dtype.byteorder == array.dtype.byteorder
    assert found.tobytes() == np.asarray(array).tobytes()
    store.close()


@of_arrays
@pytest.mark.parametrize("kind", BAD)
def test_arrays_that_would_lose_something_are_refused(tmp_path, name, kind):
    """An array that a file would lose or pickle is refused for good, by name; the records beside it are written."""
    array = BAD[kind](tmp_path)
    store = STORES[name](tmp_path / "out")
    store.open()
    with pytest.raises(StoreError, match="camera/1") as caught:
        store.write([Record(each, channel="camera", seq=n) for n, each in enumerate([np.zeros(2), array, np.ones(2)])])
    assert not caught.value.retryable
    assert [record.seq for record, _ in caught.value.failed] == [1]
    assert len(store) == 2
    store.close()
