"""B1, B3, B4 and B5: LMDBStore, objects on disk by id and name, with what improv's users know and what failed there."""

from __future__ import annotations

import inspect
import os
import pickle
import threading

import numpy
import pytest

import penstock.errors
from penstock.errors import ConfigError, StoreError
from penstock_lmdb import (
    CannotConnectToStoreInterfaceError,
    CannotGetObjectError,
    LMDBData,
    LMDBStore,
    LMDBStoreInterface,
    ObjectNotFoundError,
    StoreInterface,
)

from .object_stores import NEVER, child


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
