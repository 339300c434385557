"""B1, B2, B4, B5: objects in memory, between processes."""

from __future__ import annotations

import errno
import os
import pickle
import queue
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from penstock.coords import DataCoordinates
from penstock.errors import CannotConnectToStoreError, CannotGetObjectError, ObjectNotFoundError, StoreError
from penstock.record import Record
from penstock_shm import ShmObjectStore, clean, leftovers


@pytest.fixture
def store():
    store = ShmObjectStore("test")
    store.open()
    yield store
    store.destroy()


def test_b2_put_and_get(store):
    """B2: an object is read by id, by name and by a list of both, and is a snapshot."""
    data = np.arange(50_000)
    one, two = store.put(data, "one"), store.put({"a": [1, None]})
    data[:] = 0
    assert np.array_equal(store.get(one), np.arange(50_000))
    assert np.array_equal(store.get("one"), np.arange(50_000))
    assert store.get([two, two]) == [{"a": [1, None]}] * 2
    assert one != two
    assert one in store
    assert "one" in store
    assert len(store) == 2


def test_b2_between_processes(store, start):
    """B2: a subscriber is notified of another process's object, whose array lies in shared memory."""
    told: queue.Queue[str] = queue.Queue()
    end = store.subscribe(told.put, "frame*")
    peer = start("put", "test", "frame-1", 7)
    assert peer.hear() == "open"
    store.put(b"no", "other")
    peer.tell()
    key = peer.hear()
    assert told.get(timeout=20) == "frame-1"
    end()
    peer.end()
    array = store.get(key)
    assert (array == 7).all()
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert told.empty()


def test_b2_got_objects_survive_delete_and_replace(store):
    """B2: a returned object does not change when the object is replaced or deleted."""
    key = store.put(np.full(100_000, 1), "a")
    old = store.get("a")
    store.replace("a", np.full(100_000, 2))
    new = store.get(key)
    store.delete("a")
    assert (old == 1).all()
    assert (new == 2).all()
    assert "a" not in store
    assert key not in store
    store.put(b"again", "a")
    assert store.get("a") == b"again"


def test_b2_list_reset_and_release(store, start):
    """B2: all objects are listed in the order of time, those of other processes too, and a reset loses none."""
    keys = [store.put(np.full(100, i), f"n{i}") for i in range(5)]
    peer = start("put", "test", "last", 1)
    peer.tell()
    assert peer.hear() == "open"
    peer.hear()
    store.reset()
    assert [i.name for i in store.list_all()] == ["n0", "n1", "n2", "n3", "n4", "last"]
    assert [i.id for i in store.list_all()][:5] == keys
    assert list(store.keys()) == ["n0", "n1", "n2", "n3", "n4", "last"]


def test_b2_full_store_refuses(store):
    """B2: a full store refuses with an error that can be retried, and evicts nothing; with room it takes again."""
    small = ShmObjectStore("test", max_bytes=1 << 20)
    small.open()
    key = small.put(np.zeros(500_000, np.uint8), "a")
    with pytest.raises(StoreError, match=r"is full.*max_bytes=1048576") as caught:
        small.put(np.zeros(600_000, np.uint8))
    assert caught.value.retryable
    assert small.get(key).size == 500_000
    small.delete("a")
    small.put(np.zeros(600_000, np.uint8))
    small.close()


def test_b2_full_store_spills(tmp_path):
    """B2: a store that spills writes objects that exceed its memory to disk, where they work like others."""
    store = ShmObjectStore("spill", max_bytes=100_000, when_full="spill", spill_directory=str(tmp_path))
    store.open()
    keys = [store.put(np.full(60_000, i, np.uint8), f"n{i}") for i in range(4)]
    assert [i.spilled for i in store.list_all()] == [False, True, True, True]
    assert [int(store.get(k)[0]) for k in keys] == [0, 1, 2, 3]
    store.replace("n1", b"small")
    assert store.get("n1") == b"small"
    store.delete("n2")
    assert len(list(tmp_path.rglob("*.record"))) == 1
    store.destroy()
    assert list(tmp_path.rglob("*.record")) == []
    with pytest.raises(ValueError, match="spill_directory"):
        ShmObjectStore(when_full="spill")


def test_b4_what_is_known_of_an_object(store):
    """B4: each object keeps its time, its name, and the queue that it is an item of."""
    store.put(b"1", "a", queue="q")
    store.put(b"2", queue="q")
    store.put(Record(b"3", time_ns=5))
    infos = store.list_all()
    assert [(i.name, i.queue) for i in infos] == [("a", "q"), ("", "q"), ("", "")]
    assert sorted(i.time_ns for i in infos) == [i.time_ns for i in infos]
    assert [i.name for i in store.list_all(queue="q")] == ["a", ""]
    assert store.get(infos[2].id, include_metadata=True).time_ns == 5


def test_keys_by_coordinates(store):
    """Keys are found by coordinates."""
    for time in range(3):
        store.put(Record(b"x", coords=DataCoordinates(time=time, channel="c")), f"t{time}")
    assert list(store.keys(time=1)) == ["t1"]
    assert list(store.keys(channel="c")) == ["t0", "t1", "t2"]


def test_b5_errors(store):
    """B5: missing, damaged and unreachable objects are three picklable errors, each of the expected class."""
    with pytest.raises(ObjectNotFoundError, match="'nothing'") as missing:
        store.get("nothing")
    assert isinstance(missing.value, KeyError)
    for use in (store.delete, store.info, lambda k: store.replace(k, b""), lambda k: store.get([k])):
        with pytest.raises(ObjectNotFoundError):
            use("nothing")
    key = store.put(np.zeros(100_000))
    path = store._index.object_path(key)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CannotGetObjectError, match="damaged"):
        store.get(key)
    closed = ShmObjectStore("closed")
    with pytest.raises(CannotConnectToStoreError, match="open") as unreachable:
        closed.get("x")
    assert isinstance(unreachable.value, ConnectionError)
    for error in (missing.value, unreachable.value):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_killed_writers_leave_whole_objects(store, start):
    """Writers that are killed at any moment leave only complete objects, hold no lock, and their files are removed."""
    told: queue.Queue[str] = queue.Queue()
    end = store.subscribe(told.put)
    for turn in range(6):
        peer = start("put_for_ever", "test")
        assert peer.hear() == "open"
        for _ in range(3 + turn):
            told.get(timeout=20)
        peer.kill()
        for key in list(store.keys()):
            data = store.get(key)
            assert isinstance(data, bytes) or (data == data[0]).all()
        store.put(b"goes on")
    end()
    store.reset()
    assert not [p for p in store._index.path.iterdir() if p.name.startswith("t-")]


def test_what_a_zombie_began_is_removed(store):
    """The unfinished object of a process that has ended is removed, also while its parent has not waited for it."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    mine, its = (store._index.path / f"t-{process}-0123456789ab" for process in (os.getpid(), child.pid))
    mine.write_bytes(b"begun")
    its.write_bytes(b"begun")
    try:
        other = ShmObjectStore("test")
        other.open()
        other.close()
        assert mine.exists()
        assert not its.exists()
    finally:
        child.wait()
        mine.unlink()


def test_clean_leaves_what_is_in_use(store, start):
    """`clean` removes stores that no process has open, with their objects, and no open store."""
    store.put(b"x", "a")
    assert leftovers() == []
    assert clean() == []
    assert store.get("a") == b"x"
    other = ShmObjectStore("other")
    other.open()
    other.put(b"y")
    other.close()
    assert [(left.kind, left.name) for left in leftovers()] == [("objects", "other")]
    assert [left.name for left in clean()] == ["other"]
    assert leftovers() == []


def test_b2_changes_are_told(store, start):
    """B2: a watcher is notified of objects put, replaced and deleted by any process, and misses none."""
    store.put(b"before", "old")
    told: queue.Queue[tuple[str, str]] = queue.Queue()
    end = store.watch(lambda *what: told.put(what))
    few: queue.Queue[tuple[str, str]] = queue.Queue()
    store.watch(lambda *what: few.put(what), "frame*")
    peer = start("put", "test", "frame-1", 7)
    peer.tell()
    assert told.get(timeout=20) == ("put", "frame-1")
    assert few.get(timeout=20) == ("put", "frame-1")  # a watcher that comes late receives the outcome only
    store.replace("old", b"new")
    assert told.get(timeout=20) == ("replaced", "old")
    key = store.put(b"nameless")
    assert told.get(timeout=20) == ("put", key)
    for name in ("old", key, "frame-1"):
        store.delete(name)
        assert told.get(timeout=20) == ("deleted", name)
    assert few.get(timeout=20) == ("deleted", "frame-1")
    end()
    store.put(b"unseen")
    assert told.empty()
    peer.end()


def test_b1_found_by_name_and_by_id(store):
    """B1: put returns the id; get, replace and delete take it, or the name; a subscriber is notified of new objects."""
    told: queue.Queue[str] = queue.Queue()
    store.subscribe(told.put)
    key = store.put(b"1", "a")
    assert told.get(timeout=20) == "a"
    for by in (key, "a"):
        assert store.get(by) == b"1"
    store.replace(key, b"2")
    assert store.get("a") == b"2"
    store.replace("a", b"3")
    assert store.get(key) == b"3"
    store.delete(key)
    assert "a" not in store
    assert store.put(b"4", "a") != key
    store.delete("a")
    assert len(store) == 0


def test_b2_a_directory_that_is_full(store, monkeypatch):
    """B2: where not even a name or a socket finds room, putting and subscribing say so, and nothing half is left."""
    real = Path.symlink_to

    def full(self, target, **how):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "symlink_to", full)
    with pytest.raises(StoreError, match=r"is full.*delete objects") as caught:
        store.put(b"x", "a")
    assert caught.value.retryable
    monkeypatch.setattr(Path, "symlink_to", real)
    assert len(store) == 0
    assert not [path for path in store._index.path.iterdir() if path.name.startswith("t-")]
    store.put(b"x", "a")
