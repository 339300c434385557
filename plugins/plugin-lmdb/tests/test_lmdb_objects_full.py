"""LMDBStore: a store or a disk that is full costs what does not fit, and nothing else."""

from __future__ import annotations

import logging
import resource
import signal
import threading

import numpy
import pytest

from penstock.errors import StoreError
from penstock_lmdb import (
    LMDBStore,
)

from .object_stores import NEVER, committed


def _put_until_full(store, ids):
    for number in range(1000):
        ids.append(store.put(bytes(20_000), f"n{number}"))
        store.commit()


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


def test_many_puts_do_not_fill_the_memory(make):
    """What waits is committed when it is more than 64 MiB, whatever commit_freq says."""
    store, before = make(commit_freq=NEVER), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for n in range(30):
        store.put(numpy.full(1 << 20, n), f"n{n}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 220_000
    assert store.get("n0")[0] == 0
