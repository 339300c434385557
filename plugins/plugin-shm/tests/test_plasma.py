"""B1, B2, B5: the object store under the names of improv."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from penstock.errors import (
    CannotConnectToStoreError,
    CannotGetObjectError,
    ObjectNotFoundError,
    RecordExistsError,
    StoreError,
)
from penstock_shm import PlasmaStoreInterface, ShmObjectStore


@pytest.fixture
def store():
    store = PlasmaStoreInterface()
    yield store
    store.release()
    ShmObjectStore(store.store_loc).destroy()


def test_b2_put_returns_an_id_and_both_find_the_object(store):
    """An object is read by its name and by its id; a missing one raises the error that improv's users catch."""
    key = store.put(np.arange(5), "frame")
    assert store.get("frame").tolist() == store.getID(key).tolist() == [0, 1, 2, 3, 4]
    other = store.put({"a": [1]}, object_name="other")
    assert store.getList([other, key])[0] == {"a": [1]}
    assert [type(each) for each in store.get_all()] == [np.ndarray, dict]
    assert store.getStored() == {"frame": key, "other": other}
    with pytest.raises(CannotGetObjectError, match="nothing"):
        store.get("nothing")
    for missing in ("nothing", "frame", *store.random_ObjectID()):
        with pytest.raises(ObjectNotFoundError):
            store.getID(missing)
    with pytest.raises(ObjectNotFoundError):
        store.getList([key, "nothing"])
    with pytest.raises(ObjectNotFoundError, match="on disk"):
        store.getID(key, hdd_only=True)
    assert len(set(store.random_ObjectID(number=3))) == 3


def test_b1_replace_and_delete(store):
    """`put` refuses an existing name, `replace` keeps it, and `delete` removes it."""
    key = store.put(1, "one")
    with pytest.raises(RecordExistsError):
        store.put(2, "one")
    assert store.replace("one", 3) == key
    assert store.get("one") == 3
    store.delete("one")
    for missing in (lambda: store.delete("one"), lambda: store.replace("one", 1)):
        with pytest.raises(ObjectNotFoundError):
            missing()
    assert store.put(4, "one") != key


def test_b2_connecting_does_not_make_a_store(store, place):
    """connect_store finds an existing store, changes nothing if there is none, and creates none."""
    before = sorted(place.rglob("*"))
    store.put("here", "mine")
    with pytest.raises(CannotConnectToStoreError, match="'elsewhere': there is no store of this name"):
        store.connect_store("elsewhere")
    assert store.get("mine") == "here"
    assert {path.name for path in place.rglob("*")} >= {path.name for path in before}
    assert not [path for path in place.rglob("*") if "elsewhere" in path.name]
    with PlasmaStoreInterface("other", "elsewhere") as other:
        other.put("there", "theirs")
        assert store.connect_store("elsewhere") is store.client
        assert store.get("theirs") == "there"
    ShmObjectStore("elsewhere").destroy()
    store.release()
    store.store_loc = "/tmp/store"


def test_b2_reset_and_release(store):
    """After reset all objects exist; after release, which may be repeated, errors name the remedy."""
    store.put([1, 2], "list")
    assert store.reset() is store.client
    assert store.get("list") == [1, 2]
    store.release()
    store.release()
    with pytest.raises(CannotConnectToStoreError, match="is not open"):
        store.get("list")
    store.reset()
    assert store.get("list") == [1, 2]


def test_b2_subscribers_are_notified(store):
    """`notify` returns the ids of objects put by any interface after `subscribe`, in order; `release` ends a wait."""
    with pytest.raises(StoreError, match=r"call subscribe\(\) before"):
        store.notify()
    store.put(0, "before")
    store.subscribe()
    with PlasmaStoreInterface("other") as other:
        keys = [other.put(number, f"after {number}") for number in range(3)]
    assert [store.notify(timeout_s=20) for _ in keys] == keys
    assert store.notify(timeout_s=0) is None
    told = []
    waiting = threading.Thread(target=lambda: told.append(store.notify()))
    waiting.start()
    store.release()
    waiting.join(20)
    assert told == [None]


def test_b2_a_failed_subscription_is_none(store):
    """After a `subscribe` that failed, `notify` is an error, and does not wait for objects that cannot come."""
    store.release()
    with pytest.raises(CannotConnectToStoreError, match="is not open"):
        store.subscribe()
    with pytest.raises(StoreError, match=r"call subscribe\(\) before"):
        store.notify(timeout_s=0)


def test_b2_callbacks_are_called(store):
    """A callback given to `subscribe` is called with the name of each object that is put and matches."""
    told = threading.Event()
    end = store.subscribe(lambda name: told.set() if name == "wanted" else None, pattern="want*")
    store.put(1, "other")
    store.put(1, "wanted")
    assert told.wait(20)
    end()


def test_b2_names_need_no_updating(store):
    """The method `updateStoreInterfaced` does nothing, and warns."""
    key = store.put(1, "one")
    with pytest.warns(UserWarning, match="does nothing: names are shared"):
        store.updateStoreInterfaced("one", key)
    assert store.getStored() == {"one": key}


def test_b2_unrelated_processes_share(store):
    """What an unrelated process has put is there, also after it has ended; an interface can be pickled."""
    code = "from penstock_shm import PlasmaStoreInterface as P; P().put({'from': 'there'}, 'theirs')"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
    assert store.get("theirs") == {"from": "there"}
    assert pickle.loads(pickle.dumps(store)).get("theirs") == {"from": "there"}


def test_b2_what_was_left_does_not_stop_the_next_run(store):
    """Names left by earlier users of the store are found, and free for put; those of this session are not."""
    store.put("old", "name")
    store.release()
    store.reset()
    assert store.get("name") == "old"
    store.put("new", "name")
    with pytest.raises(RecordExistsError):
        store.put("newer", "name")
    with PlasmaStoreInterface("joins later") as other, pytest.raises(RecordExistsError):
        other.put("newer", "name")
    assert store.get("name") == "new"
