"""What is special about the lmdb store: growing, keys, other processes, errors at open."""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import lmdb
import numpy
import pytest

from penstock.errors import CannotConnectToStoreError, CannotGetObjectError, RecordExistsError, StoreError
from penstock.record import Record
from penstock.testing import no_leaks, permissions_hold
from penstock_lmdb import LmdbRecordStore
from penstock_lmdb.inspection import verify


@pytest.fixture
def opened(tmp_path):
    """Open stores, and close them at the end."""
    stores = []

    def open_store(**settings):
        store = LmdbRecordStore(**{"path": tmp_path / "records.lmdb", **settings})
        store.open()
        stores.append(store)
        return store

    with no_leaks():
        yield open_store
        for store in stores:
            store.close()


def record(number=0, data=None, **fields):
    return Record(numpy.arange(6) + number if data is None else data, **{"channel": "camera", "seq": number, **fields})


def test_b3_the_map_grows(opened):
    """A map that is full grows while it is written to, and nothing is lost."""
    store = opened(map_size=1 << 16)
    for number in range(40):
        store.write(
            [record(number, numpy.full(50_000, number)), record(number, numpy.full(9, number), channel="small")]
        )
    assert len(store) == 80
    assert store.get("camera/000000000039").data[0] == 39


def test_b3_the_map_grows_while_others_read(opened):
    """Threads that read do not stop the map from growing, and read whole records."""
    store = opened(map_size=1 << 16)
    store.write([record(0)])
    done, errors = threading.Event(), []

    def read():
        while not done.is_set():
            for key in list(store.keys()):
                data = store.get(key).data
                if not (data == data[0]).all() and data.size != 6:
                    errors.append(key)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(1, 30):
        store.write([record(number, numpy.full(20_000, number))])
    done.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert len(store) == 30


def test_max_size_is_retryable_and_deleting_makes_room(opened):
    """At max_size nothing of a call is written; after deleting, the same call works."""
    store = opened(map_size=1 << 16, max_size=1 << 20)
    store.write([record(0, numpy.zeros(60_000)), record(1, numpy.zeros(30_000))])
    with pytest.raises(StoreError, match="full at max_size=1048576; delete records") as caught:
        store.write([record(2), record(3, numpy.zeros(100_000))])
    assert caught.value.retryable
    assert caught.value.failed == ()
    assert "camera/000000000002" not in store
    store.delete("camera/000000000000")
    store.write([record(2), record(4, numpy.zeros(30_000))])
    assert len(store) == 3


def test_the_very_same_record_again_counts_as_written(opened):
    """A source that repeats after a crash does not fail; another record under the key does, and the old one stays."""
    store = opened()
    store.write([record(0), record(1)])
    store.write([record(0), record(1), record(2)])
    with pytest.raises(RecordExistsError, match="tell records apart") as caught:
        store.write([record(0, numpy.zeros(3)), record(3)])
    assert [failed.seq for failed, _ in caught.value.failed] == [0]
    assert len(store) == 4
    assert store.get("camera/000000000000").data.size == 6


def test_skip_and_replace(opened, tmp_path):
    """`skip` keeps the first record of a key, `replace` the last."""
    for when_exists, size in (("skip", 1), ("replace", 2)):
        store = opened(path=tmp_path / f"{when_exists}.lmdb", key="one", when_exists=when_exists)
        store.write([record(0, numpy.zeros(1)), record(1, numpy.zeros(2))])
        assert store.get("one").data.size == size


def test_keys_too_long_and_empty(opened):
    """A key that LMDB cannot hold is refused with its length and the template; its neighbours are written."""
    store = opened(key="{{ channel }}")
    with pytest.raises(StoreError, match="has 600 bytes, but 1 to 511 are possible") as caught:
        store.write([record(0, channel="x" * 600), record(1, channel=""), record(2, channel="å" * 255)])
    assert [failed.seq for failed, _ in caught.value.failed] == [0, 1]
    assert not caught.value.retryable
    assert list(store.keys()) == ["å" * 255]


def test_what_cannot_be_encoded_is_named(opened):
    """Metadata that have no bytes are refused with their path; neighbours are written."""
    store = opened()
    with pytest.raises(StoreError, match=r"metadata.*handle") as caught:
        store.write([record(0), record(1, metadata={"handle": threading.Lock()})])
    assert [failed.seq for failed, _ in caught.value.failed] == [1]
    assert len(store) == 1


def test_arrays_may_be_changed(opened):
    """An array that was read belongs to the reader: it can be changed, and the store is not."""
    store = opened()
    store.write([record(0)])
    found = store.get("camera/000000000000").data
    found += 1
    assert store.get("camera/000000000000").data[0] == 0


def test_files_and_directories(opened, tmp_path):
    """A path that ends in .lmdb is a file with its lock beside it; any other is a directory."""
    opened(path=tmp_path / "deep/file.lmdb").write([record()])
    opened(path=tmp_path / "directory").write([record()])
    assert sorted(os.listdir(tmp_path / "deep")) == ["file.lmdb", "file.lmdb-lock"]
    assert sorted(os.listdir(tmp_path / "directory")) == ["data.mdb", "lock.mdb"]


def test_b3_another_process_reads_while_this_one_grows(opened, tmp_path):
    """A reader in another process follows a map that became larger after it opened it."""
    code = (
        "import sys; from penstock_lmdb import LmdbRecordStore\n"
        "store = LmdbRecordStore(path=sys.argv[1], readonly=True); store.open()\n"
        "for line in sys.stdin: print(len(store), store.get(line.strip()).data.size, flush=True)\n"
        "store.close()"
    )
    store = opened(map_size=1 << 16)
    store.write([record(0)])
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "records.lmdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as reader:
        for number in range(1, 8):
            store.write([record(number, numpy.zeros(100_000 * number))])
            reader.stdin.write(f"camera/{number:012d}\n")
            reader.stdin.flush()
            assert reader.stdout.readline().split() == [str(number + 1), str(100_000 * number)]
        reader.stdin.close()
        assert reader.wait() == 0


def test_b3_another_process_grows_it_while_this_one_opens(opened, tmp_path, monkeypatch):
    """A file that becomes larger between the two steps of opening it is opened all the same."""
    code = (
        "import sys, numpy; from penstock_lmdb import LmdbRecordStore; from penstock.record import Record\n"
        "store = LmdbRecordStore(path=sys.argv[1], map_size=1 << 16); store.open()\n"
        "store.write([Record(numpy.zeros(200_000), channel='other')]); store.close()"
    )
    opened(map_size=1 << 16).close()
    connect = lmdb.open

    def connect_and_wait(path, **settings):
        env = connect(path, **settings)
        subprocess.run(
            [sys.executable, "-c", code, path],
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return env

    monkeypatch.setattr(lmdb, "open", connect_and_wait)
    store = opened(map_size=1 << 16)
    assert store.get("other/000000000000").data.size == 200_000


def test_readonly_cannot_be_changed(opened, tmp_path):
    """A store opened with readonly refuses every change by name, and makes nothing."""
    opened().close()
    store = opened(readonly=True)
    for change in (lambda: store.write([record()]), lambda: store.delete("a"), lambda: store.sync_with({})):
        with pytest.raises(StoreError, match="readonly=True and cannot be changed") as caught:
            change()
        assert not caught.value.retryable
    assert store.positions() == {}


def test_errors_at_open(opened, tmp_path):
    """A file that cannot be opened is reported with its path and remedy, and leaves nothing open."""
    (tmp_path / "text.lmdb").write_text("no database" * 1000)
    (tmp_path / "empty").mkdir()
    lmdb.open(str(tmp_path / "foreign")).close()
    opened()
    for settings, message in (
        ({"path": "missing.lmdb", "readonly": True}, "does not exist; check the path, or omit readonly=True"),
        ({"path": "empty", "readonly": True}, "holds no LMDB file; check the path"),
        ({"path": "foreign", "readonly": True}, "holds no records of penstock; check the path"),
        ({"path": "text.lmdb"}, "is not an LMDB file, or is damaged; choose another path"),
        ({"path": "records.lmdb", "readonly": True}, "is already open in this process"),
    ):
        store = LmdbRecordStore(**{**settings, "path": tmp_path / settings["path"]})
        with pytest.raises(CannotConnectToStoreError, match=message) as caught:
            store.open()
        assert settings["path"] in str(caught.value)
        store.close()
    assert not (tmp_path / "text.lmdb-lock").exists()


@pytest.fixture
def reachable():
    """An empty directory that every user can look into; those of pytest are for one only."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "place"
        place.mkdir()
        Path(name).chmod(0o755)
        yield place
        place.chmod(0o755)


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "closed"])
def test_errors_without_permission(reachable, mode):
    """Missing permissions to write or read are reported with the path, and nothing is left."""
    reachable.chmod(mode)
    with (
        permissions_hold(),
        pytest.raises(CannotConnectToStoreError, match=r"x.lmdb' may not be written to; change its permissions"),
    ):
        LmdbRecordStore(path=reachable / "x.lmdb").open()
    reachable.chmod(0o755)
    assert list(reachable.iterdir()) == []
    store = LmdbRecordStore(path=reachable / "x.lmdb")
    store.open()
    store.close()
    (reachable / "x.lmdb").chmod(0o000)
    with (
        permissions_hold(),
        pytest.raises(CannotConnectToStoreError, match=r"x.lmdb' may not be read; change its permissions"),
    ):
        LmdbRecordStore(path=reachable / "x.lmdb", readonly=True).open()


def test_what_is_no_record(opened, tmp_path):
    """Bytes under a key that are not a record are a CannotGetObjectError; they are never unpickled."""
    opened().close()
    with lmdb.open(str(tmp_path / "records.lmdb"), subdir=False, max_dbs=2) as env, env.begin(write=True) as txn:
        txn.put(b"bad", pickle.dumps({"a": 1}), db=env.open_db(b"records", txn=txn))
    store = opened()
    assert list(store.keys()) == ["bad"]
    assert list(store.keys(time=1)) == []
    with pytest.raises(CannotGetObjectError, match="'bad' is not a record"):
        store.get("bad")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_is_refused(opened):
    """A fork that uses the parent's store gets an error rather than damage; the parent goes on."""
    store = opened()
    store.write([record(0)])
    child = os.fork()
    if not child:
        status = 1
        try:
            with pytest.raises(StoreError, match="cannot be used after a fork; open it here"):
                store.write([record(1)])
            store.close()
            status = 0
        finally:
            os._exit(status)  # nothing of pytest's may go on here
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.write([record(2)])
    assert len(store) == 2


def test_the_parent_comes_back(opened):
    """A decoded record is stored with the packet that it came from."""
    store = opened()
    store.write([record(1, parent=record(0, b"packet"))])
    assert store.get("camera/000000000001").parent.data == b"packet"


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("name", ["a.lmdb", "directory"])
def test_a_file_that_vanishes_is_no_success(tmp_path, name, replaced):
    """When the file is removed or replaced under an open store, sync and close are StoreErrors, not a success."""
    store = LmdbRecordStore(path=tmp_path / name)
    store.open()
    store.write([Record(b"x", seq=0)])
    store.sync()
    file = tmp_path / name / "data.mdb" if name == "directory" else tmp_path / name
    file.rename(tmp_path / "elsewhere")
    if replaced:
        file.write_bytes((tmp_path / "elsewhere").read_bytes())
    for call in (store.sync, store.close):
        with pytest.raises(StoreError, match="was removed or replaced while it was open") as caught:
            call()
        assert not caught.value.retryable
    store.close()


def test_b3_a_key_that_comes_twice_in_a_list_is_found_once(opened, tmp_path):
    """Replaced by a later one of its own list, a record is found by the time and coordinates of that one only."""
    store = opened(when_exists="replace")
    store.write([record(1, time_ns=10, coords={"t": 1}), record(1, 7, time_ns=20, coords={"t": 2})])
    assert store.get("camera/000000000001").data == 7
    assert list(store.query(to_ns=15, order="time")) == []
    assert list(store.keys(t=1)) == []
    assert list(store.keys(t=2)) == list(store.query(from_ns=15)) == ["camera/000000000001"]
    store.close()
    assert verify(tmp_path / "records.lmdb") == (1, [])


@pytest.mark.parametrize("numbers", [(0, 1, 2, 3), (3, 1, 0, 2), (0, 0, 1, 1)])
@pytest.mark.parametrize("large", [False, True])
def test_b3_lists_in_any_order_are_kept_alike(opened, tmp_path, numbers, large):
    """A list is kept alike, whether its records are appended in one call or put one by one."""
    store = opened()
    data = numpy.zeros(1 << 17, "uint8") if large else 0
    for channel in ("b", "a", "b"):  # behind all; before all; the very same once more
        store.write([record(n, data, channel=channel, time_ns=n, coords={"t": n}) for n in numbers])
    expected = [f"{channel}/{n:012d}" for channel in "ab" for n in sorted(set(numbers))]
    assert list(store.keys()) == expected
    assert [store.get(key).seq for key in expected] == sorted(set(numbers)) * 2
    assert list(store.keys(t=1)) == ["a/000000000001", "b/000000000001"]
    changes = queue.Queue()
    end = store.watch(changes.put, since=0)
    assert sorted(changes.get(timeout=10).key for _ in expected) == expected
    end()
    assert changes.empty()
    store.close()
    assert verify(tmp_path / "records.lmdb") == (len(expected), [])


@pytest.mark.parametrize("readonly", [False, True])
def test_what_is_no_file_is_refused_at_once(tmp_path, readonly):
    """A named pipe is not waited for, and a path with NUL is a typed error."""
    os.mkfifo(tmp_path / "pipe.lmdb")
    for path, message in (
        (tmp_path / "pipe.lmdb", "neither a file nor a directory"),
        ("a\0.lmdb", "cannot|no LMDB file"),
    ):
        store = LmdbRecordStore(path=path, readonly=readonly)
        with pytest.raises(CannotConnectToStoreError, match=message):
            store.open()
        store.close()
