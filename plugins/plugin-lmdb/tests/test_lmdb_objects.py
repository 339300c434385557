"""B1, B3, B4 and B5: LMDBStore, objects on disk by id and name, with what improv's users know and what failed there."""

from __future__ import annotations

import inspect
import logging
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import lmdb
import numpy
import pytest

import penstock.errors
from penstock.errors import ConfigError, StoreError
from penstock.record import Record
from penstock.testing import no_leaks
from penstock_lmdb import (
    CannotConnectToStoreInterfaceError,
    CannotGetObjectError,
    Encoder,
    LMDBData,
    LmdbRecordStore,
    LMDBStore,
    LMDBStoreInterface,
    ObjectNotFoundError,
    StoreInterface,
)

NEVER = 1e6


@pytest.fixture
def make(tmp_path):
    """Make stores in one directory, and close them at the end."""
    stores = []

    def make_store(name="run", **settings):
        store = LMDBStore(tmp_path, name, **settings)
        stores.append(store)
        return store

    with no_leaks():
        yield make_store
        for store in stores:
            store.close()


def child(code, *arguments, **settings):
    """Start a Python process that runs this code."""
    prelude = "import sys, os, signal, time, numpy\nfrom penstock_lmdb import LMDBStore\n"
    return subprocess.Popen(
        [sys.executable, "-c", prelude + code, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings,
    )  # fmt: skip


def held(path):
    """Return what another process finds by name."""
    with LMDBStore(path, load=True) as store:
        return {store.get(key, include_metadata=True).name: store.get(key) for key in store.get_keys()}


def committed(store):
    """Return the names of the objects that do not wait for a commit."""
    waiting = store._buffer.pending()
    keys = [key for key in store.get_keys() if key.encode() not in waiting]
    return {data.name for data in store.get(keys, include_metadata=True)}


def _put_until_full(store, ids):
    for number in range(1000):
        ids.append(store.put(bytes(20_000), f"n{number}"))
        store.commit()


def test_b3_names_order_and_defaults_are_those_of_the_seed():
    """The signatures have the names, the order and the defaults of improv's; what is added is keyword-only."""

    def seen(function):
        return [
            (p.name, p.default)
            for p in inspect.signature(function).parameters.values()
            if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"
        ]

    empty = inspect.Parameter.empty
    assert seen(LMDBStore) == [
        ("path", "../outputs/"), ("name", None), ("load", False), ("max_size", 1e12), ("flush_immediately", False),
        ("commit_freq", 1),
    ]  # fmt: skip
    assert seen(LMDBStore.put) == [
        ("obj", empty),
        ("obj_name", empty),
        ("obj_id", None),
        ("flush_this_immediately", False),
    ]
    assert seen(LMDBStore.get) == [("key", empty), ("include_metadata", False)]
    assert seen(LMDBStore.flush) == [("sig", None), ("frame", None)]
    assert seen(LMDBStore.delete) == [("obj_id", empty)]
    assert seen(LMDBData) == [("obj", empty), ("time", empty), ("name", empty), ("is_queue", False)]
    assert LMDBStoreInterface is LMDBStore is StoreInterface


def test_b3_the_default_constructor_works(tmp_path, monkeypatch):
    """Without arguments a store of its own is made in ../outputs; a second one is another."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with LMDBStore() as one, LMDBStore() as other:
        assert one.path != other.path
        assert one.path.resolve().parent == tmp_path / "outputs"
        key = other.put(1, "number")
        other.flush()
    with LMDBStore(load=True) as found:
        assert found.get(key) == 1


def test_b1_by_name_and_by_id(make):
    """`put` returns the id; an object is found by it and by its name, the last of a name, before and after a commit."""
    store = make(commit_freq=NEVER)
    first, last = store.put([1], "spikes"), store.put([2], "spikes", b"\x00\xff own id")
    for _ in range(2):
        assert last == b"\x00\xff own id"
        assert store.get("spikes") == [2]
        assert store.get(first) == [1]
        assert store.get([last, first, "spikes"]) == [[2], [1], [2]]
        assert store.get_keys() == sorted(
            [first, last], key=lambda key: key if isinstance(key, bytes) else key.encode()
        )
        store.commit()
    store.delete(last)
    assert store.get("spikes") == [1]


def test_b3_put_is_a_snapshot(make):
    """What is changed after `put` does not change what is kept, and what is got belongs to the caller."""
    store, array = make(), numpy.zeros(3)
    store.put(array, "a")
    array += 1
    got = store.get("a")
    got += 5
    store.commit()
    assert store.get("a").sum() == 0


def test_b4_metadata(make):
    """Each object keeps time, name, and the queue that it is an item of."""
    store = make()
    store.put(1, "q__Acquirer.q_out__124")
    store.put(2, "frame")
    for _ in range(2):
        item, other = store.get(["q__Acquirer.q_out__124", "frame"], include_metadata=True)
        assert (item.obj, item.is_queue, item.queue) == (1, True, "Acquirer.q_out")
        assert (other.obj, other.is_queue, other.queue) == (2, False, None)
        assert 0 < item.time < other.time
        store.commit()


def test_b5_errors_are_what_a_caller_expects(make, tmp_path):
    """Each error has the argument of the seed, is the built-in that a caller expects, and can be pickled."""
    store = make()
    with pytest.raises(ObjectNotFoundError, match=r"run.*holds no object with id or name 'nothing'") as missing:
        store.get("nothing")
    with pytest.raises(ObjectNotFoundError, match="'x', 'y'"):
        store.get([store.put(1, "there"), "x", "y"])
    with pytest.raises(ObjectNotFoundError):
        store.delete("nothing")
    with pytest.raises(ObjectNotFoundError):
        store.replace("nothing", 1)
    with pytest.raises(CannotConnectToStoreInterfaceError, match="does not exist") as unreachable:
        LMDBStore(tmp_path / "nowhere", load=True)
    for error, builtin, own in (
        (missing.value, KeyError, penstock.errors.ObjectNotFoundError),
        (unreachable.value, ConnectionError, penstock.errors.CannotConnectToStoreError),
        (CannotGetObjectError("query"), LookupError, penstock.errors.CannotGetObjectError),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert isinstance(again, builtin)
        assert isinstance(again, own)
        assert str(again) == str(error)
    assert missing.value.obj_id_or_name == "nothing"
    assert CannotGetObjectError(query="q").query == "q"
    assert CannotConnectToStoreInterfaceError(store_loc="/tmp").store_loc == "/tmp"


@pytest.mark.parametrize(
    ("key", "why"), [("", "has 0 bytes"), ("x" * 512, "has 512 bytes"), (7, "must be a str or bytes")]
)
def test_ids_that_cannot_be(make, key, why):
    """An id that is empty, longer than 511 bytes or of another type is refused; nothing else is."""
    store = make()
    with pytest.raises(StoreError, match=why) as caught:
        store.put(1, "name", key)
    assert not caught.value.retryable
    ids = ["x" * 511, "å\0b", b"\0", "ö" * 255]
    assert [store.put(n, "name", each) for n, each in enumerate(ids)] == ids
    store.commit()
    assert store.get(ids) == [0, 1, 2, 3]
    assert set(store.get_keys()) == set(ids)


@pytest.mark.parametrize("name", ["", "n" * 5000, "a\0b", "å"])
def test_any_text_is_a_name(make, name):
    """A name may be any text."""
    store = make()
    store.put(1, name + "x")
    key = store.put(2, name)
    store.commit()
    assert store.get(key, include_metadata=True).name == name
    if name:
        assert store.get(name) == 2


def test_b3_a_bad_item_fails_alone(make):
    """An object that cannot be kept is refused by its `put`, by name; its neighbours are kept."""
    store = make()
    store.put(1, "before")
    with pytest.raises(StoreError, match=r"'lock' of type lock cannot be kept.*register an Encoder"):
        store.put(threading.Lock(), "lock")
    store.put(2, "after")
    store.commit()
    assert store.get(["before", "after"]) == [1, 2]
    assert "lock" not in store


def test_b3_a_deleted_put_stays_deleted(make):
    """An object that is deleted before or after it was committed does not come back."""
    store = make(commit_freq=NEVER)
    pending, committed = store.put(1, "pending"), store.put(2, "committed")
    store.delete(pending)
    store.commit()
    store.delete(committed)
    assert store.get_keys() == []
    store.commit()
    assert store.get_keys() == []
    for name in ("pending", "committed", pending):
        with pytest.raises(ObjectNotFoundError):
            store.get(name)


def test_b1_replace_returns_the_old(make):
    """`replace` replaces an object, returns the old one, and keeps id and name."""
    store = make(commit_freq=NEVER)
    key = store.put("one", "name")
    assert store.replace("name", "two") == "one"
    store.commit()
    assert store.replace(key, "three") == "two"
    with pytest.raises(StoreError):
        store.replace(key, threading.Lock())
    assert store.get(["name", key]) == ["three", "three"]
    assert store.get_keys() == [key]


def test_b3_load_reads_while_a_writer_lives(make, tmp_path):
    """Another process opens it with load=True, sees what was committed since, and cannot change it."""
    store = make()
    store.put(1, "a")
    store.commit()
    reader = child(
        "store = LMDBStore(sys.argv[1], 'run', load=True)\n"
        "for line in sys.stdin: print(store.get(line.strip()), flush=True)\n"
        "try: store.put(1, 'x')\n"
        "except OSError as error: print(error)\n"
        "store.close()",
        tmp_path,
    )
    with reader:
        for number in range(3):
            store.put(number, f"n{number}", flush_this_immediately=True)
            reader.stdin.write(f"n{number}\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == f"{number}\n"
        reader.stdin.close()
        assert "read only" in reader.stdout.read()
        assert reader.wait(20) == 0, reader.stderr.read()


def _syncs(code, path):
    """Return how often a process asks the kernel to sync between two marks that it writes."""
    start = f"from penstock_lmdb import LMDBStore\nimport os\nstore = LMDBStore({str(path)!r}, 'x', commit_freq=1e6)\n"
    code = start + code
    trace = path / "trace"
    calls = "trace=fsync,fdatasync,msync,sync_file_range,write"
    subprocess.run(["strace", "-f", "-e", calls, "-o", trace, sys.executable, "-c", code], check=True, timeout=120)
    between = trace.read_text().split('"begin"')[1].split('"end"')[0]
    return sum(between.count(f"{call}(") for call in ("fsync", "fdatasync", "msync"))


@pytest.mark.skipif(not shutil.which("strace"), reason="counts system calls with strace")
def test_b3_flush_this_immediately_reaches_the_disk(tmp_path):
    """A put that is buffered makes no sync call; each with flush_this_immediately makes one at least."""
    begin, end = "os.write(2, b'begin')\n", "os.write(2, b'end')\nstore.close()"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert _syncs(f"{begin}for n in range(5): store.put(n, 'n')\n{end}", tmp_path / "a") == 0
    immediately = f"{begin}for n in range(5): store.put(n, 'n', flush_this_immediately=True)\n{end}"
    assert _syncs(immediately, tmp_path / "b") >= 5


def test_b3_commit_freq_bounds_what_a_kill_loses(tmp_path):
    """After `commit_freq` seconds what was put is seen by others, and survives kill -9; `commit` does not wait."""
    with child(
        "store = LMDBStore(sys.argv[1], commit_freq=0.05)\nstore.put(1, 'in time')\nprint('ready', flush=True)\n"
        "sys.stdin.readline()\nstore.commit_freq = store._buffer._commit_freq = 1e6\nstore._buffer.commit()\n"
        "store.put(2, 'committed'); store.commit(); print('ready', flush=True); sys.stdin.readline()",
        tmp_path,
    ) as process:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        path = next(tmp_path.glob("lmdb_*"))
        deadline = threading.Event()
        for _ in range(400):
            if "in time" in held(path):
                break
            deadline.wait(0.05)
        assert held(path) == {"in time": 1}
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        process.kill()
    assert held(path) == {"in time": 1, "committed": 2}


ENDS = {
    "exit": ("", 0),
    "exception": ("raise ValueError('the end')", 1),
    "sys.exit": ("sys.exit(3)", 3),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)", 143),
    "SIGINT": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(30)", -signal.SIGINT),
    "SIGTERM in a put": (
        "import threading\n"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "while True: store.put(bytes(1000), 'more')", 143,
    ),
    "a handler that was there": ("os.kill(os.getpid(), signal.SIGTERM)", 7),
    "a handler of SIGINT that was there": ("os.kill(os.getpid(), signal.SIGINT)", 7),
    "a handler set afterwards": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9)); os.kill(os.getpid(), signal.SIGTERM)", 9,
    ),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_b3_an_end_loses_nothing(tmp_path, end):
    """A normal exit, an exception, SIGINT and SIGTERM lose nothing that was put, and end the process as before."""
    code, status = ENDS[end]
    which = "SIGINT" if "signal.SIGINT" in code else "SIGTERM"
    before = f"signal.signal(signal.{which}, lambda *_: os._exit(7))\n" if status == 7 else ""
    done = child(
        f"{before}store = LMDBStore(sys.argv[1], commit_freq=1e6)\nfor n in range(50): store.put(n, f'n{{n}}')\n{code}",
        tmp_path,
    )
    _, errors = done.communicate(timeout=60)
    assert done.returncode == status, errors
    found = held(next(tmp_path.glob("lmdb_*")))
    assert {f"n{n}": n for n in range(50)}.items() <= {k: v for k, v in found.items() if k != "more"}.items()


def test_b3_handlers_are_put_back(tmp_path):
    """The handler that a program has set stays its own after the last store was closed; threads set none."""
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        own = signal.getsignal(signal.SIGTERM)
        with LMDBStore(tmp_path, "one", commit_freq=NEVER) as store, LMDBStore(tmp_path, "two"):
            store.put(1, "x")
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == [1]
            assert store._buffer.pending() == {}
        assert signal.getsignal(signal.SIGTERM) is own
        thread = threading.Thread(target=lambda: LMDBStore(tmp_path, "three").close())
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signals_that_are_ignored_stay_so(tmp_path):
    """A signal that the process ignores is left alone, so that what it starts ignores it, too."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with LMDBStore(tmp_path, "one") as store:
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
            store.put(1, "x")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ids_of_several_writers_differ(tmp_path, monkeypatch):
    """Objects put in one nanosecond by stores of two processes have ids of their own; each store's are in order."""
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000)
    with LMDBStore(tmp_path, "one") as one, LMDBStore(tmp_path, "two") as two:
        ids = [[store.put(n, "n") for n in range(20)] for store in (one, two)]
    assert not set(ids[0]) & set(ids[1])
    assert ids == [sorted(ids[0]), sorted(ids[1])]


def test_b1_several_processes_put_at_once(tmp_path):
    """Processes that put into the same store at once lose nothing of each other, and find their own by name."""
    code = (
        "with LMDBStore(sys.argv[1], 'run', commit_freq=0.01) as store:\n"
        "    for n in range(300): store.put((sys.argv[2], n), f'of {sys.argv[2]}')\n"
        "    assert store.get(f'of {sys.argv[2]}') == (sys.argv[2], 299)"
    )
    for writer in [child(code, tmp_path, number) for number in "123"]:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    with LMDBStore(tmp_path, "run", load=True) as store:
        found = [store.get(key) for key in store.get_keys()]
    assert sorted(found) == [(number, n) for number in "123" for n in range(300)]


def test_b5_settings_that_cannot_be(tmp_path):
    """A value that is not a number of seconds or bytes is refused by name, and makes nothing; infinity is allowed."""
    for setting, value in (
        ("commit_freq", 0), ("commit_freq", "1"), ("commit_freq", float("nan")), ("commit_freq", True),
        ("max_size", 0), ("max_size", -1), ("max_size", 1000), ("max_size", "1e12"), ("max_size", float("nan")),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{setting}={value!r}: must be a number"):
            LMDBStore(tmp_path, "none", **{setting: value})
    assert list(tmp_path.iterdir()) == []
    with LMDBStore(tmp_path, "all", max_size=float("inf")) as store:
        store.put(numpy.zeros(1 << 22), "large")


def test_a_closed_store_says_so(make):
    """Whatever is done with a closed store is an error that says so, and cannot be retried."""
    store = make()
    key = store.put(1, "n")
    store.close()
    for use in (
        lambda: store.put(1, "n"), lambda: store.get(key), store.get_keys, store.commit, lambda: store.delete(key),
        lambda: store.replace(key, 1), lambda: store.subscribe(print), lambda: len(store), lambda: key in store,
    ):  # fmt: skip
        with pytest.raises(StoreError, match="is closed") as caught:
            use()
        assert not caught.value.retryable
    store.flush()


def test_what_is_no_text_is_no_id(make):
    """A lone surrogate cannot be part of an id or a name: it is refused where it is put, and not found elsewhere."""
    store = make()
    for put in (lambda: store.put(1, "n", "\ud800"), lambda: store.put(1, "\ud800")):
        with pytest.raises(StoreError) as caught:
            put()
        assert not caught.value.retryable
    with pytest.raises(ObjectNotFoundError):
        store.get("\ud800")


def test_a_full_store_says_so_and_goes_on(make, caplog):
    """At max_size a commit is a StoreError that can be retried; what was put stays, and deleting makes room."""
    store = make(max_size=1 << 20, commit_freq=NEVER)
    keys = [store.put(numpy.zeros(10_000), f"n{n}") for n in range(8)]
    store.commit()
    store.put(numpy.ones(60_000), "large")
    with pytest.raises(StoreError, match="is full at max_size=1048576") as caught:
        store.commit()
    assert caught.value.retryable
    assert store.get("large").sum() == 60_000
    for key in keys:
        store.delete(key)
    store.commit()  # they make room for the large one
    assert len(store) == 1
    store.delete("large")
    store.commit()
    store.put(numpy.ones(60_000), "large", flush_this_immediately=True)
    assert store.get("large").sum() == 60_000


@pytest.mark.parametrize("now", [True, False])
def test_an_object_without_room_leaves_its_neighbours_alone(make, now):
    """What fits is committed beside an object that does not; a put that raises keeps nothing, and others go on."""
    store = make(max_size=1 << 20, commit_freq=NEVER, flush_immediately=now)
    first, doomed = store.put(1, "first"), store.put(2, "doomed")
    store.put(numpy.ones(80_000), "large")
    for size, message in ((200_000, "more than max_size=1048576"), (80_000, "is full at max_size=1048576")):
        with pytest.raises(StoreError, match=message) as caught:
            store.put(numpy.ones(size), "too large", flush_this_immediately=True)
        assert caught.value.retryable is (size == 80_000)
        assert "too large" not in store
    store.put(3, "after")
    store.delete(doomed)
    with pytest.raises(StoreError, match="is full at max_size"):
        store.put(numpy.ones(80_000), "known", first, flush_this_immediately=True)
    assert store.get(first) == 1  # as it was before the put that raised
    store.flush()
    assert committed(store) == {"first", "large", "after"}
    assert not store._buffer.pending()


def test_objects_that_wait_for_room_hold_up_no_others(make):
    """Of buffered objects, those that fit are durable when flush raises; the others wait, and are named."""
    store = make(max_size=1 << 20, commit_freq=NEVER)
    for number in range(5):
        store.put(number, f"small {number}")
        store.put(numpy.full(40_000, number), f"large {number}")
    with pytest.raises(StoreError, match=r"is full at max_size.*; 2 waiting, the first is 'large \d' of 320\d+ bytes"):
        store.flush()
    kept = committed(store)
    assert {f"small {number}" for number in range(5)} < kept
    assert len(kept) == 8
    assert len(store) == 10
    for name in kept:
        store.delete(name)
    store.flush()
    assert len(committed(store)) == len(store) == 2


def test_deletes_make_room_on_a_full_disk(tmp_path):
    """On a full disk, deletes are committed although an object that does not fit waits with them, which fits then."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = LMDBStore(tmp_path, "run", commit_freq=NEVER)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, limits[1]))
        ids = []
        with pytest.raises(StoreError, match="disk is full"):
            _put_until_full(store, ids)
        for key in ids[:-1]:
            store.delete(key)
        store.flush()
        assert store.get_keys() == [ids[-1]]
        assert not store._buffer.pending()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
        store.close()


def test_the_thread_that_commits_tries_again(make, caplog, monkeypatch):
    """A commit that fails is logged once, and what was put is committed as soon as that works."""
    store = make(commit_freq=0.01)
    change, failed, tried = store._environment.change, threading.Event(), []

    def fail(*arguments, **settings):
        tried.append(1)
        if len(tried) > 3:
            failed.set()
        raise StoreError("the disk is full")

    monkeypatch.setattr(store._environment, "change", fail)
    with caplog.at_level(logging.WARNING):
        store.put(1, "a")
        assert failed.wait(20)
        monkeypatch.setattr(store._environment, "change", change)
        store.commit()
    assert [message for message in caplog.messages if "are retried: the disk is full" in message] == caplog.messages
    assert len(caplog.messages) == 1
    assert store._buffer.pending() == {}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_gets_an_error(make, tmp_path):
    """A forked child cannot use its parent's store, does not write what its parent has buffered, and opens its own."""
    store = make(commit_freq=NEVER)
    store.put(1, "parent's")
    process = os.fork()
    if not process:
        status = 1
        try:
            with pytest.raises(StoreError, match="cannot be used after a fork"):
                store.put(2, "x")
            store.close()
            with LMDBStore(tmp_path, "run") as own:
                assert own.get_keys() == []
                own.put(3, "child's")
            status = 0
        finally:
            os._exit(status)  # nothing of pytest's may go on here
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    store.commit()
    assert store.get(["parent's", "child's"]) == [1, 3]


class Own:
    def __init__(self, number):
        self.number = number


def test_types_of_ones_own(make, tmp_path):
    """A named encoder keeps objects of a type; a store without it gives an error with the name."""
    encoder = Encoder("test.own", Own, lambda own: own.number, Own)
    store = make(encoders=[encoder])
    store.put([Own(3), 4], "own")
    assert store.get("own")[0].number == 3
    store.close()
    with LMDBStore(tmp_path, "run", load=True) as plain:
        with pytest.raises(CannotGetObjectError, match=r"test\.own"):
            plain.get("own")
        plain.register(encoder)
        assert plain.get("own")[0].number == 3


def test_sparse_matrices(make):
    """Sparse matrices of scipy are kept as they are."""
    sparse = pytest.importorskip("scipy.sparse")
    store, matrix = make(), sparse.random(20, 30, 0.1, "csr")
    store.put({"m": matrix}, "sparse")
    store.commit()
    found = store.get("sparse")["m"]
    assert type(found) is type(matrix)
    assert (found != matrix).nnz == 0


def test_pickle_only_where_it_was_asked_for(make, tmp_path):
    """A store pickles only with pickle=True, and unpickles only with it and only a file that was written with it."""
    store = make("pickled", pickle=True)
    store.put({1: Own(5)}, "own")
    assert store.get("own")[1].number == 5
    store.close()
    with (
        LMDBStore(tmp_path, "pickled", load=True) as plain,
        pytest.raises(CannotGetObjectError, match=r"unpickling runs code.*pickle=True"),
    ):
        plain.get("own")
    with LMDBStore(tmp_path, "pickled", load=True, pickle=True) as trusting:
        assert trusting.get("own")[1].number == 5
    with lmdb.open(str(tmp_path / "pickled"), max_dbs=20) as env, env.begin() as transaction:
        value = next(value for _, value in transaction.cursor(env.open_db(b"records", txn=transaction)))
    _plant(tmp_path / "planted", value)
    with LMDBStore(tmp_path, "planted", load=True, pickle=True) as trusting, pytest.raises(CannotGetObjectError):
        trusting.get("planted")


def _plant(path: Path, value: bytes):
    with LMDBStore(path.parent, path.name) as store:
        store.put(1, "x")
    with lmdb.open(str(path), max_dbs=20) as env, env.begin(write=True) as transaction:
        transaction.put(b"planted", value, db=env.open_db(b"records", txn=transaction))


def test_records_keep_their_fields(make):
    """A record comes back as a record with its coordinates, time and metadata."""
    store = make()
    store.put(Record(numpy.arange(3), channel="cam", seq=7, time_ns=5, coords={"z": 1}, metadata={"gain": 2}), "record")
    store.commit()
    found = store.get("record")
    assert (found.channel, found.seq, found.time_ns, found.coords, dict(found.metadata)) == (
        "cam",
        7,
        5,
        {"z": 1},
        {"gain": 2},
    )


def test_the_component_reads_what_was_put(make, tmp_path):
    """A file of objects is read by LmdbRecordStore: data, name and time."""
    with make() as store:
        store.put(numpy.arange(3), "frame", "id")
    records = LmdbRecordStore(path=tmp_path / "run", readonly=True)
    records.open()
    assert list(records.keys()) == ["id"]
    assert records.get("id").channel == "frame"
    assert records.get("id").data.sum() == 3
    records.close()


def test_threads_share_a_store(make):
    """Threads that put, read and delete at once find their own objects, and lose none."""
    store, errors = make(commit_freq=0.001), []

    def work(own):
        try:
            for n in range(100):
                key = store.put((own, n), f"{own}-{n}")
                assert store.get(key) == (own, n)
                assert store.get(f"{own}-{n}") == (own, n)
                if n % 2:
                    store.delete(key)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(store.get_keys()) == 200


def test_many_puts_do_not_fill_the_memory(make):
    """What waits is committed when it is more than 64 MiB, whatever commit_freq says."""
    store, before = make(commit_freq=NEVER), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for n in range(30):
        store.put(numpy.full(1 << 20, n), f"n{n}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 220_000
    assert store.get("n0")[0] == 0
