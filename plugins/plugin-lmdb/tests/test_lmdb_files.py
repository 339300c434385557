"""What a file may be like when it is opened: cut, damaged, another program's, later, read-only, forked, full."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import lmdb
import pytest

from penstock.errors import CannotConnectToStoreError, CannotGetObjectError, StoreError
from penstock.record import Record
from penstock.testing import permissions_hold
from penstock_lmdb import LmdbRecordStore, room
from penstock_lmdb.data_file import find_damage

READ_ALL = """
import sys
from penstock_lmdb import LmdbRecordStore
store = LmdbRecordStore(path=sys.argv[1], readonly=sys.argv[2] == "ro")
try:
    store.open()
    for key in list(store.keys()):
        store.get(key)
    store.close()
except (OSError, LookupError) as error:
    print(type(error).__name__)
"""


@contextlib.contextmanager
def opened(path, **settings):
    store = LmdbRecordStore(path=path, **settings)
    store.open()
    try:
        yield store
    finally:
        store.close()


def records(count, size=5000, start=0):
    return [Record(b"x" * size, channel="c", seq=n) for n in range(start, start + count)]


@pytest.fixture
def whole(tmp_path):
    """The bytes of a file with large and small values."""
    with opened(tmp_path / "whole.lmdb") as store:
        store.write(records(60))
        store.write(records(200, 100, start=1000))
    return (tmp_path / "whole.lmdb").read_bytes()


def in_a_child(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("share", [0.99, 0.5, 0.01])
@pytest.mark.parametrize("readonly", [True, False])
def test_a_file_copied_in_part_is_refused(tmp_path, whole, share, readonly):
    """A file that ends before its last page is refused with both sizes before it is mapped; the file stays as it is."""
    cut = tmp_path / "cut.lmdb"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CannotConnectToStoreError, match=r"damaged; choose another path, or copy it again") as caught:
        LmdbRecordStore(path=cut, readonly=readonly).open()
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), CannotConnectToStoreError)
    assert cut.stat().st_size == int(len(whole) * share)


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_never_kills_the_process(tmp_path, whole, seed):
    """Pages that are zeros, noise or have a changed number cost an error or a value, never the interpreter."""
    chance = random.Random(seed)
    damaged = bytearray(whole)
    for _ in range(chance.choice((1, 5, 20))):
        start = chance.randrange(len(damaged) // 4096) * 4096
        noise = chance.choice((bytes(4096), chance.randbytes(4096), chance.randbytes(8)))
        damaged[start : start + len(noise)] = noise
    (tmp_path / "damaged.lmdb").write_bytes(damaged)
    done = in_a_child(READ_ALL, tmp_path / "damaged.lmdb", "ro" if seed % 2 else "rw")
    assert done.returncode == 0, done.stderr


def test_a_whole_file_has_no_damage(tmp_path, whole):
    """A file that LMDB wrote is found to be whole, to the last page; also one to which a live writer adds."""
    with opened(tmp_path / "whole.lmdb") as store:
        for number in range(50):
            store.write(records(3, 3000, start=5000 + 3 * number))
            assert find_damage(tmp_path / "whole.lmdb", most_pages=None) == []


def test_a_file_of_another_program_is_refused_and_stays(tmp_path):
    """An LMDB file that holds other things is refused, and nothing is added to it."""
    with lmdb.open(str(tmp_path / "other.lmdb"), subdir=False) as env, env.begin(write=True) as transaction:
        transaction.put(b"theirs", b"value")
    before = (tmp_path / "other.lmdb").read_bytes()
    for readonly in (True, False):
        with pytest.raises(CannotConnectToStoreError, match=r"those of another program; check the path"):
            LmdbRecordStore(path=tmp_path / "other.lmdb", readonly=readonly).open()
    assert (tmp_path / "other.lmdb").read_bytes() == before


def _put(path, database, key, value):
    with lmdb.open(str(path), subdir=False, max_dbs=20) as env, env.begin(write=True) as transaction:
        transaction.put(key, value, db=env.open_db(database, txn=transaction))


def test_a_file_of_a_later_version_is_refused(tmp_path):
    """A file whose layout is a later one is refused with what to do."""
    with opened(tmp_path / "later.lmdb"):
        pass
    _put(tmp_path / "later.lmdb", b"info", b"layout", b"999")
    for readonly in (True, False):
        with pytest.raises(CannotConnectToStoreError, match=r"later penstock-lmdb .layout 999.*install a later one"):
            LmdbRecordStore(path=tmp_path / "later.lmdb", readonly=readonly).open()


def test_a_value_of_a_later_version_costs_itself(tmp_path, whole):
    """A record of a later format is a CannotGetObjectError with the remedy; the others are read."""
    with opened(tmp_path / "whole.lmdb") as store:
        key = next(iter(store.keys()))
    with lmdb.open(str(tmp_path / "whole.lmdb"), subdir=False, max_dbs=20) as env:
        database = env.open_db(b"records")
        with env.begin(write=True, db=database) as transaction:
            value = bytearray(transaction.get(key.encode()))
            value[4] = 77
            transaction.put(key.encode(), bytes(value))
    with opened(tmp_path / "whole.lmdb", readonly=True) as store:
        with pytest.raises(CannotGetObjectError, match=r"format 77.*use a later one") as caught:
            store.get(key)
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), CannotGetObjectError)
        assert len([store.get(each) for each in list(store.keys()) if each != key]) == 259


@pytest.mark.parametrize("lock", ["missing", "closed"])
def test_an_archive_whose_lock_cannot_be_written(whole, lock):
    """A file in a directory that may only be read is read, with or without a lock file."""
    with tempfile.TemporaryDirectory() as name:
        archive = Path(name) / "archive"
        archive.mkdir()
        (archive / "a.lmdb").write_bytes(whole)
        if lock == "closed":
            (archive / "a.lmdb-lock").write_bytes(b"")
            (archive / "a.lmdb-lock").chmod(0o444)
        (archive / "a.lmdb").chmod(0o444)
        archive.chmod(0o555)
        Path(name).chmod(0o755)
        try:
            with permissions_hold(), opened(archive / "a.lmdb", readonly=True) as store:
                assert len([store.get(key) for key in list(store.keys())]) == 260
        finally:
            archive.chmod(0o755)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_opens_the_file_itself(tmp_path):
    """A child that was forked while the store was open opens the same file, writes, and both records are there."""
    with opened(tmp_path / "a.lmdb") as store:
        store.write(records(1))
        child = os.fork()
        if not child:
            status = 1
            try:
                with opened(tmp_path / "a.lmdb") as own:
                    own.write(records(1, start=1))
                status = 0
            finally:
                os._exit(status)  # nothing of pytest's may go on here
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        store.write(records(1, start=2))
        assert [store.get(key).seq for key in list(store.keys())] == [0, 1, 2]


def test_opened_twice_is_an_error_that_can_be_pickled(tmp_path):
    """The same file twice in one process is refused by name; afterwards it can be opened."""
    with opened(tmp_path / "a.lmdb"):
        with pytest.raises(CannotConnectToStoreError, match="is already open in this process") as caught:
            LmdbRecordStore(path=tmp_path / "a.lmdb", readonly=True).open()
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), CannotConnectToStoreError)
    with opened(tmp_path / "a.lmdb", readonly=True):
        pass


def test_what_was_allocated_ahead_is_given_back(tmp_path, monkeypatch):
    """Where the disk is nearly full, room is allocated ahead; a file that was closed ends with its last page."""
    monkeypatch.setattr(room, "PLENTY", 1 << 60)
    with opened(tmp_path / "a.lmdb") as store:
        store.write(records(1))
        assert (tmp_path / "a.lmdb").stat().st_size > 1 << 17
    assert (tmp_path / "a.lmdb").stat().st_size < 1 << 17


def _fill(store, size=20_000, start=0):
    for number in range(start, start + 1000):
        store.write(records(1, size, start=number))


def test_delete_works_where_nothing_more_can_be_written(tmp_path):
    """Where the file cannot grow, a write is a StoreError that can be retried; deleting works, and makes room."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = LmdbRecordStore(path=tmp_path / "a.lmdb")
    store.open()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
        with pytest.raises(StoreError, match=r"disk is full.*then try again") as caught:
            _fill(store)
        assert caught.value.retryable
        keys = list(store.keys())
        assert len(keys) > 20
        for key in keys[:10]:
            store.delete(key)
        store.write(records(1, 20_000, start=5000))
        assert len(store) == len(keys) - 9
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
        store.close()


def test_every_delete_works_where_writes_have_used_what_was_free(tmp_path):
    """On a full disk, writes that use what was freed leave the reserve: positions are kept, and all can be deleted."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = LmdbRecordStore(path=tmp_path / "a.lmdb")
    store.open()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, limits[1]))
        for round_ in range(4):
            start = 10_000 * round_
            with pytest.raises(StoreError, match="disk is full") as caught:
                _fill(store, 20_000 + 3000 * round_, start)
            assert caught.value.retryable
            store.sync_with({"source": start})
            keys = list(store.keys())
            for key in keys[:: 2 if round_ < 3 else 1]:
                store.delete(key)
        assert len(store) == 0
        store.write(records(1, 100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
        store.close()


def test_a_killed_reader_is_cleared_and_a_slow_one_named(tmp_path, caplog):
    """A reader that holds old pages is reported once, with its process; when it was killed, its slot is cleared."""
    code = (
        "import sys; from penstock_lmdb.environment import Environment; from pathlib import Path\n"
        "e = Environment(Path(sys.argv[1]), where='r', readonly=True, map_size=1, max_size=None, flush_commits=True)\n"
        "with e.reading():\n    print('ready', flush=True)\n    sys.stdin.read()\n"
    )
    with opened(tmp_path / "a.lmdb", flush_each="sync", when_exists="replace") as store:
        store.write(records(1))
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "a.lmdb")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as reader:
            assert reader.stdout.readline() == b"ready\n"
            for _ in range(1600):
                store.write(records(1, 10))
            told = [message for message in caplog.messages if f"process {reader.pid} has been reading" in message]
            assert len(told) == 1
            reader.kill()
        grown = (tmp_path / "a.lmdb").stat().st_size
        for _ in range(1600):
            store.write(records(1, 10))
        assert (tmp_path / "a.lmdb").stat().st_size < grown * 1.25  # 26 MB more if the slot stayed


def test_a_slow_reader_of_a_file_that_grows_by_much_is_named(tmp_path, caplog):
    """Where few but large transactions make the file grow, a reader that holds old pages is named long before 1,000."""
    with opened(tmp_path / "a.lmdb", flush_each="sync", when_exists="replace", map_size=1 << 20) as store:
        store.write(records(1))
        code = (
            "import sys; from penstock_lmdb import LmdbRecordStore\n"
            "store = LmdbRecordStore(path=sys.argv[1], readonly=True); store.open()\n"
            "with store.reading():\n    print('ready', flush=True)\n    sys.stdin.read()\nstore.close()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "a.lmdb"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            for _ in range(250):
                store.write(records(1, 30_000))
            process.stdin.close()
            assert process.wait(30) == 0
    assert [message for message in caplog.messages if f"process {process.pid} has been reading" in message]


def test_an_old_file_without_later_databases_is_read(tmp_path):
    """A file of layout 1, which has records and positions only, can be read, and written to."""
    with opened(tmp_path / "new.lmdb") as store:
        store.write(records(3))
    shutil.copy(tmp_path / "new.lmdb", tmp_path / "copy.lmdb")
    with (
        lmdb.open(str(tmp_path / "copy.lmdb"), subdir=False, max_dbs=20) as new,
        lmdb.open(str(tmp_path / "old.lmdb"), subdir=False, max_dbs=20) as old,
        new.begin() as source,
        old.begin(write=True) as target,
    ):
        old.open_db(b"positions", txn=target)
        database = old.open_db(b"records", txn=target)
        for key, value in source.cursor(new.open_db(b"records", txn=source)):
            target.put(key, value, db=database)
    with opened(tmp_path / "old.lmdb", readonly=True) as store:
        assert len(list(store.keys())) == 3
        assert store.positions() == {}
    with opened(tmp_path / "old.lmdb") as store:
        store.write(records(1, start=3))
        assert len(list(store.keys())) == 4
