"""Many files of one call: one lock, one write to the index, one flush, and each failure costs only its own record."""

from __future__ import annotations

import errno
import json
import math
import os
import warnings

import numpy
import pytest

from penstock.errors import RecordExistsError, StoreError
from penstock.record import Record
from penstock.testing import no_leaks
from penstock.testing.samples import ARRAYS
from penstock_npy import NpyStore, durable
from penstock_npy.files import FileWriter
from penstock_npy.npy_format import read_array
from penstock_npy.tagged import tagged_text, untagged

COUNT = 150


@pytest.fixture(autouse=True)
def nothing_leaks():
    """No descriptor is left, whatever fails."""
    with no_leaks():
        yield


def records(count=COUNT):
    return [Record(numpy.full(10, n), channel=f"c{n % 3}", seq=n, metadata={"n": n}) for n in range(count)]


def opened(root, **settings):
    store = NpyStore(path="{{ channel }}/{{ seq }}.npy", root=root, **settings)
    store.open()
    return store


def assert_holds(store, numbers):
    """Fail unless the store has these records and no others, with what the index keeps."""
    assert len(store) == len(numbers)
    for n in numbers:
        found = store.get(f"c{n % 3}/{n}.npy")
        assert found.metadata == {"n": n}
        assert (found.data == n).all()


@pytest.mark.parametrize("when_exists", ["error", "skip", "number", "replace"])
def test_names_that_are_taken(tmp_path, when_exists):
    """Of many records of one call, those whose name is taken are treated by themselves, the others are written."""
    store = opened(tmp_path, when_exists=when_exists)
    taken = [Record(numpy.full(10, -1), channel=f"c{n % 3}", seq=n) for n in (0, 70, 149)]
    store.write(taken)
    failed = []
    try:
        store.write(records())
    except RecordExistsError as error:
        failed = [record.seq for record, _ in error.failed]
    assert failed == ([0, 70, 149] if when_exists == "error" else [])
    files = len(list(tmp_path.glob("c*/*.npy")))
    assert files == (COUNT + 3 if when_exists == "number" else COUNT)
    for n in (0, 70, 149):
        assert (store.get(f"c{n % 3}/{n}.npy").data == (n if when_exists == "replace" else -1)).all()
    assert store.get("c1/1.npy").metadata == {"n": 1}
    store.close()


def test_one_name_twice_in_one_call(tmp_path):
    """Two records of one call that get one name: the first is written, the second refused."""
    store = opened(tmp_path)
    with pytest.raises(RecordExistsError) as caught:
        store.write([*records(5), Record(numpy.zeros(1), channel="c1", seq=1)])
    assert [record.data.shape for record, _ in caught.value.failed] == [(1,)]
    assert_holds(store, range(5))
    store.close()


@pytest.mark.parametrize("call", ["open", "writev", "link"])
def test_a_file_that_fails_costs_only_itself(tmp_path, monkeypatch, call):
    """An error of the system at one file is that record's alone; the next attempt writes it."""
    store = opened(tmp_path)
    store.write([Record(numpy.zeros(1), channel="c0", seq=999), *[r.replace(seq=1000 + r.seq) for r in records(3)]])
    real, calls = getattr(os, call), []

    def fail(*arguments, **more):
        is_file = call != "open" or (arguments[1] & os.O_WRONLY and ".index" not in os.fspath(arguments[0]))
        if is_file:
            calls.append(arguments)
            if len(calls) == 40 or len(calls) > COUNT:  # alone, and when it is tried by itself
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **more)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StoreError, match="No space left") as caught:
        store.write(records())
    monkeypatch.undo()
    assert caught.value.retryable
    assert [record.seq for record, _ in caught.value.failed] == [39]
    store.write([record for record, _ in caught.value.failed])
    for n in range(COUNT):
        assert store.get(f"c{n % 3}/{n}.npy").metadata == {"n": n}
    store.close()


def test_an_index_that_cannot_be_written_keeps_files_from_their_names(tmp_path, monkeypatch):
    """Without room for its line in the index no file appears; later all are written."""
    store = opened(tmp_path)
    real = os.write

    def fail(fd, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(StoreError) as caught:
        store.write(records())
    assert len(caught.value.failed) == COUNT
    assert len(store) == 0
    monkeypatch.setattr(os, "write", real)
    store.write(records())
    assert_holds(store, range(COUNT))
    store.close()


def test_one_lock_and_one_write_to_the_index(tmp_path, monkeypatch):
    """Writing a list costs a few locks and writes to the index, not one for each file."""
    locks, writes, real = [], [], os.write
    fcntl = pytest.importorskip("fcntl")
    flock = fcntl.flock
    store = opened(tmp_path)
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: (locks.append(1), flock(*arguments)))
    monkeypatch.setattr(os, "write", lambda *arguments: (writes.append(1), real(*arguments))[1])
    store.write(records())
    assert len(locks) == 3
    assert len(writes) == 9  # of three channels, three times
    monkeypatch.undo()
    store.close()


@pytest.mark.parametrize("how", ["at once", "an error", "missing"])
def test_all_is_flushed(tmp_path, monkeypatch, how):
    """Many files are flushed with their file system; where that fails or is missing, each one and its directory is."""
    flushed, systems = [], []
    monkeypatch.setattr(durable, "sync_path", lambda path: flushed.append(path) or True)

    def syncfs(fd):
        systems.append(os.readlink(f"/proc/self/fd/{fd}"))
        return how == "at once"

    monkeypatch.setattr(durable, "_syncfs", lambda: None if how == "missing" else syncfs)
    store = opened(tmp_path)
    store.write(records())
    store.sync()
    assert bool(systems) == (how != "missing")
    if how == "at once":
        assert not flushed
    else:
        assert {os.path.relpath(path, tmp_path) for path in flushed} >= {f"c{n % 3}/{n}.npy" for n in range(COUNT)} | {
            *("c0", "c1", "c2", ".", ".index", ".index/c0.jsonl")
        }
    flushed.clear()
    systems.clear()
    store.sync()
    assert not flushed
    assert not systems
    store.close()


def test_a_file_system_that_is_not_watched_is_flushed_file_by_file(tmp_path, monkeypatch):
    """Files below a directory that became another file system after it was first written to are flushed one by one."""
    flushed = []
    monkeypatch.setattr(durable, "sync_path", lambda path: flushed.append(path) or True)
    unsynced = durable.Unsynced()
    for n in range(100):
        unsynced.add(f"{tmp_path}/{n}", str(tmp_path))
    unsynced.sync()
    assert len(flushed) == 101
    unsynced.close()


def test_many_files_that_vanish_are_no_success(tmp_path):
    """Of many files flushed together, those that are gone are reported, at each sync."""
    writer = FileWriter()
    for n in range(100):
        writer.write(tmp_path / str(n), [b"x"], "error")
    (tmp_path / "7").unlink()
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match="1 that were written"):
            writer.sync()
    writer.close()


@pytest.mark.parametrize("most", [1, 50, 130, 200])
def test_writes_that_are_cut_short_go_on(tmp_path, monkeypatch, most):
    """When the system takes a part of what it is given, the rest follows."""
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, buffers: real(fd, [b"".join(map(bytes, buffers))[:most]]))
    store = opened(tmp_path)
    store.write(records(3))
    monkeypatch.undo()
    assert_holds(store, range(3))
    store.close()


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": 1, "b": None, "c": True, "d": 1.5, "e": "text"},
        {"a": 10**30, "b": -(10**30), "c": 2**63, "d": 2**64},
        {"a": "ä€😀", "ä": 1},
        {"a": "\udc80"},
        {"a": 1e300, "b": -0.0, "c": 5e-324, "d": 1e16, "e": 0.1 + 0.2},
        {"a": float("inf"), "b": -float("inf")},
        {"$float": "nan"},
        {"a$b": 1},
        {"a": '"\\\n\x00\x7f\u2028'},
    ],
    ids=repr,
)
def test_what_the_index_keeps_is_read_by_the_json_module(value):
    """Coordinates and metadata of every kind are one line of ASCII that the json module reads, and come back alike."""
    text = tagged_text(value)
    assert text.isascii()
    assert "\n" not in text
    found = untagged(json.loads(text))
    assert found == value
    assert [(type(each), repr(each)) for each in found.values()] == [
        (type(each), repr(each)) for each in value.values()
    ]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_read_as_numpy_reads_them(tmp_path, name, version):
    """A file of any version of the format gives the array that numpy.load gives: values, dtype, shape and order."""
    with (tmp_path / "a.npy").open("wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that versions 2 and 3 are for newer versions of numpy
        numpy.lib.format.write_array(file, numpy.asarray(ARRAYS[name]()), version=version, allow_pickle=False)
    expected = numpy.load(tmp_path / "a.npy", allow_pickle=False)
    found, status = read_array(tmp_path / "a.npy")
    assert status.st_size == (tmp_path / "a.npy").stat().st_size
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert not expected.size or found.strides == expected.strides
    assert found.tobytes() == expected.tobytes()
    assert found.flags.writeable


@pytest.mark.parametrize("sidecar", ["index", "none"])
@pytest.mark.parametrize("when_exists", ["error", "skip", "number", "replace"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_name_that_is_a_symlink_out_of_the_root_is_refused(is_there, when_exists, sidecar, tmp_path):
    """Nothing is written through a link that leads out, the record is not skipped, and its neighbours are written."""
    outside = tmp_path / "outside.npy"
    if is_there:
        outside.write_bytes(b"theirs")
    root = tmp_path / "root"
    root.mkdir()
    (root / "1.npy").symlink_to(outside)
    store = NpyStore(path="{{ '%d' % n }}.npy", root=root, when_exists=when_exists, sidecar=sidecar)
    store.open()
    with pytest.raises(StoreError, match="symlink") as raised:
        store.write(records(3))
    store.close()
    assert [record.seq for record, _ in raised.value.failed] == [1]
    assert [(root / f"{n}.npy").is_symlink() for n in range(3)] == [False, True, False]
    assert outside.exists() == is_there
    assert not is_there or outside.read_bytes() == b"theirs"


def test_keys_of_the_record_before_do_not_decide_for_the_next():
    """Metadata are tagged by their own keys, whatever keys the mapping before had."""
    for value in ({"a": 1}, {1: 1}, {"a": 1}, {"$a": 1}, {"a": 2.5, "b": math.nan}, {"a": 2.5, "b": 1}):
        found = untagged(json.loads(tagged_text(value)))
        assert str(found) == str({str(key): each for key, each in value.items()})
