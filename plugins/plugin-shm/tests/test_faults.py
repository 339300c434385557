"""Deaths at any moment: survivors continue or raise within the stated time; nothing is torn or left behind.

The short form is part of CI; PENSTOCK_FAULTS=full kills a hundred times each.
"""

from __future__ import annotations

import os
import queue
import random
import time

import numpy as np
import pytest

from penstock.record import Record
from penstock_shm import SharedMemoryArray, ShmObjectStore, ShmSource, ShmStore, clean, listing

ROUNDS = 100 if os.environ.get("PENSTOCK_FAULTS") == "full" else 6
SOON_S = 5.0
"""A death is seen at once, by the socket or the lock that the kernel closes; the rest is for a busy machine."""

pytestmark = pytest.mark.timeout(20 * ROUNDS)


@pytest.fixture
def chance(request):
    """Chances that are the same each time, and others for each test."""
    return random.Random(request.node.name)


class Soon:
    """Check that a block takes no longer than a survivor may need."""

    def __enter__(self) -> None:
        self.started_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        assert time.monotonic() - self.started_s < SOON_S


def test_killed_producers_and_consumers(chance, start):
    """Any process may be killed at any time: the others get whole records in order, or an error; none hangs."""
    for turn in range(ROUNDS):
        producer = start("produce", f"test {turn}", 0, chance.choice([10, 1000, 300_000]))
        victim, survivor = start("consume", f"test {turn}", 1), start("consume", f"test {turn}", 1)
        for peer in (victim, survivor):
            assert peer.hear() == "open"
        for _ in range(chance.randrange(1, 60)):
            victim.hear()
        if chance.random() < 0.5:
            victim.kill()
            with Soon():
                assert [survivor.hear() for _ in range(60)][-1].startswith("got ")
        producer.kill()
        said = survivor.hear()
        while said.startswith("got "):
            said = survivor.hear()
        assert said.startswith("told 0 "), "no torn record, and word of the death"
        for peer in (producer, victim, survivor):
            peer.close()


def test_killed_parents(chance, start):
    """A consuming parent is killed: its producing child raises within the configured time, and ends."""
    array = SharedMemoryArray.create_array("counts", np.zeros(1000, np.int64))
    for turn in range(ROUNDS):
        parent = start("lead", f"test {turn}", "counts")
        for _ in range(chance.randrange(1, 60)):
            assert parent.hear() == "got"
        parent.kill()
        said = parent.hear()  # its child has the same output
        while said == "got":
            said = parent.hear()
        assert "0 of 1 consumers are attached" in said
        assert float(said.split()[1]) < 0.5 + SOON_S
        with Soon():
            array.add(..., 1)
            assert parent.process.stdout.read() == "", "all that had been started have ended"
        parent.close()
    array.destroy()


def test_killed_holders_of_an_arrays_lock(chance, start):
    """A process that adds to a whole array is killed: others go on at once; half of a sum is there only if counted."""
    array = SharedMemoryArray.create_array("sums", np.zeros(200_000, np.int64), lock_timeout_s=SOON_S)
    survivor = start("add_for_ever", "sums")
    for _ in range(ROUNDS):
        victim = start("add_for_ever", "sums")
        for _ in range(chance.randrange(1, 20)):
            victim.hear()
        before = array.interrupted
        victim.kill()
        with Soon():
            found = array[...]
        if array.interrupted == before:
            assert (found == found[0]).all()
        else:
            with array.array() as elements:  # what the dead one left is for the living to mend
                elements[...] = elements.max()
        with Soon():
            for _ in range(3):
                survivor.hear()
        victim.close()
    survivor.kill()
    array.destroy()


def test_killed_while_they_join(chance, start):
    """Processes that open and close are killed: a channel's lock is free at once, and their sockets block no one."""
    for _ in range(ROUNDS):
        victims = [start("come_and_go", "door") for _ in range(2)]
        for _ in range(chance.randrange(1, 30)):
            victims[0].hear()
        for victim in victims:
            victim.kill()
        with Soon():
            source, store = ShmSource("door"), ShmStore("door")
            source.open()
            store.open()
            store.write([Record(b"x")])
            assert len(source.read(1, SOON_S)) == 1
            store.close()
            source.close()
        for victim in victims:
            victim.close()
        assert [shared for shared in listing() if shared.name == "door"] == []


def test_killed_writers_of_objects(chance, start):
    """Writers of objects are killed: only complete objects exist, and unfinished files are removed by the next open."""
    store = ShmObjectStore("test")
    store.open()
    told: queue.Queue[str] = queue.Queue()
    for turn in range(ROUNDS):
        store.subscribe(told.put)
        victims = [start("put_for_ever", "test") for _ in range(2)]
        for victim in victims:
            assert victim.hear() == "open"
        while not told.empty():
            told.get()
        for _ in range(chance.randrange(1, 30)):
            told.get(timeout=20)
        for victim in victims:
            victim.kill()
        with Soon():
            store.put(b"goes on", f"mine {turn}")
            for key in list(store.keys()):
                data = store.get(key)
                assert isinstance(data, bytes) or (data == data[0]).all()
            store.reset()
            assert not [path for path in store._index.path.iterdir() if path.name.startswith("t-")]
        for info in store.list_all():
            store.delete(info.id)
        assert store._index.size_bytes() == 0, "what they took is counted"
        for victim in victims:
            victim.close()
    store.destroy()


def test_nothing_is_left_of_a_whole_run(start, place):
    """All processes of a run are killed at once: their leftovers are removed by the next open, and by `clean`."""
    for turn in range(min(ROUNDS, 10)):
        run = [start("consume", f"run {turn}"), start("produce", f"run {turn}", 0, 300_000)]
        assert run[1].hear() == "open"
        for peer in run:
            peer.kill()
            peer.close()
    clean()
    assert not place.exists() or list(place.iterdir()) == []
