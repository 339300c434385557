"""B1: being told of puts, replaces and deletes, in this process and from others, in order and from a position."""

from __future__ import annotations

import os
import queue
import subprocess
import sys

import pytest

from penstock.errors import StoreError
from penstock.record import Record
from penstock.testing import no_leaks
from penstock_lmdb import LmdbRecordStore, LMDBStore
from penstock_lmdb.file_watch import FileWatch

PATIENCE_S = 30


@pytest.fixture
def make(tmp_path):
    stores = []

    def make_store(**settings):
        store = LmdbRecordStore(**{"path": tmp_path / "a.lmdb", **settings})
        store.open()
        stores.append(store)
        return store

    with no_leaks():
        yield make_store
        for store in stores:
            store.close()


def records(*numbers, channel="c"):
    return [Record(n, channel=channel, seq=n, coords={"t": n % 2}) for n in numbers]


def facts(told, count):
    return [(event.kind, event.key) for event in (told.get(timeout=PATIENCE_S) for _ in range(count))]


def test_b1_every_kind_in_order(make):
    """A subscriber receives put, replace and delete of matching keys in their order, and no others."""
    store, told, odd = make(), queue.Queue(), queue.Queue()
    end = store.watch(told.put, "c/*")
    store.watch(odd.put, t=1)
    keys = [store.key_of(record) for record in records(0, 1)]
    store.write(records(0, 1) + records(5, channel="other"))
    assert facts(told, 2) == [("put", key) for key in keys]
    assert facts(odd, 2) == [("put", keys[1]), ("put", "other/000000000005")]
    store.replace(keys[1], records(1)[0])
    assert facts(told, 1) == [("replace", keys[1])]
    store.delete(keys[1])
    assert facts(told, 1) == [("delete", keys[1])]
    assert facts(odd, 2) == [("replace", keys[1]), ("delete", keys[1])]
    end()
    end()
    store.write(records(7))
    assert facts(odd, 1) == [("put", "c/000000000007")]
    assert told.empty()


def test_b1_from_a_position_after_being_away(make):
    """A subscriber that returns with its last position receives the events that it missed, and no more."""
    store, told = make(), queue.Queue()
    end = store.watch(told.put)
    store.write(records(0, 1, 2))
    position = [told.get(timeout=PATIENCE_S) for _ in range(3)][1].position
    end()
    store.write(records(3))
    store.close()
    store.open()
    store.watch(told.put, since=position)
    assert [key for _, key in facts(told, 2)] == ["c/000000000002", "c/000000000003"]
    assert store.last_change() == position + 2
    assert told.empty()


def test_b1_from_another_process(make, tmp_path):
    """A process that only reads is notified of the writes of another one, in their order."""
    store = make()
    code = (
        "import sys; from penstock_lmdb import LmdbRecordStore\n"
        "store = LmdbRecordStore(path=sys.argv[1], readonly=True); store.open()\n"
        "store.watch(lambda event: print(event.kind, event.key, flush=True))\n"
        "print('ready', flush=True); sys.stdin.read(); store.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "a.lmdb"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout.readline() == "ready\n"
        for n in range(20):
            store.write(records(n))
            assert reader.stdout.readline() == f"put c/{n:012d}\n"
        store.delete("c/000000000003")
        assert reader.stdout.readline() == "delete c/000000000003\n"
        reader.stdin.close()
        assert reader.wait(PATIENCE_S) == 0


AWAY = """
import sys
from penstock_lmdb import LMDBStore
with LMDBStore(sys.argv[1], load=True) as store:
    since = int(sys.argv[2]) if len(sys.argv) > 2 else None
    store.subscribe(lambda e: print(e.position, e.kind, e.key, e.name, flush=True), "spikes*", since=since)
    if since is None:
        print("ready", flush=True)
    sys.stdin.read()
"""


def test_b1_a_process_that_was_killed_comes_back(tmp_path):
    """Killed and started again with its last position, a subscriber in another process misses nothing."""
    with LMDBStore(tmp_path, "run") as store:
        key = store.put(1, "spikes 1", "id")
        store.put(1, "other")
        store.commit()
        command = [sys.executable, "-c", AWAY, store.path]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes) as reader:
            assert reader.stdout.readline() == "ready\n"
            store.put(2, "spikes 2", "2")
            store.commit()
            position, *event = reader.stdout.readline().split(" ", 2)
            assert event == ["put", "2 spikes 2\n"]
            reader.kill()
        for change in (
            lambda: store.replace(key, 5),
            lambda: store.put(3, "spikes 3", "3"),
            lambda: store.delete(key),
            lambda: store.delete("other"),
        ):
            change()
            store.commit()
        with subprocess.Popen([*command, position], **pipes) as reader:
            # What was replaced is not there any more: its delete has its name, and so is reported.
            found = [reader.stdout.readline().split(" ", 1)[1] for _ in range(2)]
            assert found == ["put 3 spikes 3\n", "delete id spikes 1\n"]
            store.put(4, "spikes 4", "4")
            store.commit()
            assert reader.stdout.readline().endswith(" put 4 spikes 4\n")
            reader.stdin.close()
            assert reader.wait(PATIENCE_S) == 0


def test_a_delete_is_reported_by_coordinates_and_name_to_who_was_not_there(make):
    """A delete is reported by name and coordinates also to a subscriber that was never told of the put."""
    store, told, odd = make(), queue.Queue(), queue.Queue()
    store.write(records(0, 1, 2))
    store.watch(told.put, "c")
    store.watch(odd.put, t=1)
    for n in range(3):
        store.delete(f"c/{n:012d}")
    assert [told.get(timeout=PATIENCE_S).name for _ in range(3)] == ["c", "c", "c"]
    assert facts(odd, 1) == [("delete", "c/000000000001")]
    store.write(records(3))
    assert facts(odd, 1) == [("put", "c/000000000003")]


@pytest.mark.parametrize("since", [4, 10**30, -1, "3", 1.5, True])
def test_a_position_of_another_file_is_refused(make, since):
    """A position that this file never had is an error with where to begin, rather than events that never come."""
    store = make()
    store.write(records(0, 1, 2))
    with pytest.raises(StoreError, match="not a position of this file, whose last change is 3") as caught:
        store.watch(print, since=since)
    assert not caught.value.retryable
    store.watch(print, since=3)


def test_a_store_that_keeps_no_changes_says_so(make):
    """Subscribing to a store with keep_changes=0 is an error with the remedy, rather than silence."""
    with pytest.raises(StoreError, match="keeps no changes that could be reported; set keep_changes"):
        make(keep_changes=0).subscribe(print)


def test_changes_that_were_forgotten(make):
    """Who was away for longer than the file remembers is told so with the position to begin at, and not silently."""
    store = make(keep_changes=100)
    for start in range(0, 1000, 10):
        store.write(records(*range(start, start + 10)))
    with pytest.raises(StoreError, match=r"forgotten; read the whole store, .* position 1000"):
        store.watch(print, since=3)
    told = queue.Queue()
    store.watch(told.put, since=950)
    assert len(facts(told, 50)) == 50


def test_a_subscriber_that_raises_costs_itself_one_event(make, caplog):
    """An error of a subscriber is logged, and it receives the next change."""
    store, told = make(), queue.Queue()

    def tell(event):
        told.put(event)
        raise ValueError("mine")

    store.watch(tell)
    store.write(records(0, 1))
    assert len(facts(told, 2)) == 2
    store.close()
    assert "a subscriber of" in caplog.text


def test_a_watch_that_was_closed_wakes_nobody(tmp_path):
    """Waking a watch that another thread has just closed writes to no file that has its descriptors by now."""
    watch = FileWatch(tmp_path)
    watch.close()
    pipes = [os.pipe() for _ in range(4)]
    watch.wake()
    watch.close()
    try:
        for end, _ in pipes:
            os.set_blocking(end, False)
            with pytest.raises(BlockingIOError):
                os.read(end, 1)
    finally:
        for ends in pipes:
            for end in ends:
                os.close(end)


def test_a_subscriber_may_use_and_end(make):
    """A subscriber may read the store and end itself from its own call."""
    store, told, ends = make(), queue.Queue(), []

    def tell(key):
        told.put(store.get(key).data)
        ends[0]()

    ends.append(store.subscribe(tell))
    store.write(records(4))
    assert told.get(timeout=PATIENCE_S) == 4
    store.write(records(5))
    store.close()
    assert told.empty()


def test_b1_objects(tmp_path):
    """LMDBStore tells of put, replace and delete by id and name when they are committed, also from a position."""
    with no_leaks(), LMDBStore(tmp_path, "run", commit_freq=0.01) as store:
        told, some = queue.Queue(), queue.Queue()
        store.subscribe(told.put)
        store.subscribe(some.put, "spikes*")
        key = store.put(1, "spikes 1", b"\xff")
        store.put(2, "other")
        first = told.get(timeout=PATIENCE_S)
        assert (first.kind, first.key, first.name) == ("put", b"\xff", "spikes 1")
        assert told.get(timeout=PATIENCE_S).name == "other"
        store.replace("spikes 1", 3)
        assert told.get(timeout=PATIENCE_S).kind == "replace"
        store.delete(key)
        assert [(e.kind, e.name) for e in (some.get(timeout=PATIENCE_S) for _ in range(3))] == [
            ("put", "spikes 1"), ("replace", "spikes 1"), ("delete", "spikes 1"),
        ]  # fmt: skip
        again = queue.Queue()
        store.subscribe(again.put, since=first.position)
        assert again.get(timeout=PATIENCE_S).name == "other"
