"""Arrays that lie in shared memory are passed on without a copy, and are not overwritten while they are read."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.codec import decode_parts, encode
from penstock.errors import CodecError, StoreError
from penstock.record import Record
from penstock.testing import strategies
from penstock_shm import ShmSource, ShmStore
from penstock_shm.channel.pool import READY_BYTES
from penstock_shm.channel.reference import LARGE_BYTES, referred, referring
from penstock_shm.channel.shared import Shared

FULL = os.environ.get("PENSTOCK_FAULTS") == "full"
SHAPE = (500, 1000, 2)


class Channels:
    """Stores and sources of this process, closed in the end."""

    def __init__(self):
        self.open = []

    def source(self, name, **settings):
        return self._opened(ShmSource(name, **settings))

    def store(self, name, **settings):
        return self._opened(ShmStore(name, **settings))

    def _opened(self, end):
        end.open()
        self.open.append(end)
        return end


@pytest.fixture
def channels():
    made = Channels()
    yield made
    gc.collect()
    for end in made.open:
        end.close()


def frame(number):
    return np.full(SHAPE, number % 251, np.uint8)


def taken_bytes(store):
    return store._producer._pool.size_bytes


def one(source):
    (record,) = source.read(1, 20.0)
    return record


def overwrite(store, source, count=12):
    """Write and read so many frames that all memory that is free is used again."""
    for number in range(count):
        store.write([Record(frame(200 + number % 50), seq=number)])
        one(source)


def test_a_filled_array_is_not_copied(channels):
    """What is written into an array of the store arrives, in the memory where it was written."""
    source, store = channels.source("a"), channels.store("a")
    array = store.empty(SHAPE)
    array[...] = frame(7)
    view = array[150]
    before = taken_bytes(store)
    store.write([Record(array, metadata={"gain": [1, 2]}), Record(array[100:200], seq=1)])
    first, part = one(source), one(source)
    assert (first.data == 7).all()
    assert first.metadata == {"gain": [1, 2]}
    assert part.data.shape == (100, 1000, 2)
    with pytest.raises(ValueError, match="read-only"):
        array[150] = 9
    view[...] = 9  # which nobody should do: it shows that nothing was copied
    assert (first.data[150] == 9).all()
    assert (part.data[50] == 9).all()
    assert taken_bytes(store) - before <= 2**20  # blocks for what is beside the arrays


def test_memory_of_filled_arrays_is_used_again(channels):
    """A long run takes no more memory than a short one, and arrays that were never written are reused too."""
    source, store = channels.source("a"), channels.store("a", max_bytes=40 << 20)
    for number in range(100):
        store.empty(SHAPE)
        array = store.empty(SHAPE, "int16")
        array[...] = number
        store.write([Record(array, seq=number)])
        assert (one(source).data == number).all()


def test_an_array_that_is_kept_is_not_used_again(channels):
    """As long as the user or a consumer has a view of it, the memory of an array is left alone."""
    source, store = channels.source("a"), channels.store("a")
    mine, written = store.empty(SHAPE)[10:20], store.empty(SHAPE)
    mine[...], written[...] = 5, 6
    store.write([Record(written)])
    record = one(source)
    del written
    overwrite(store, source)
    for _ in range(5):
        store.empty(SHAPE)[...] = 99
    assert (mine == 5).all()
    assert (record.data == 6).all()


def test_what_cannot_be_shared_is_an_error(channels):
    """A dtype with objects is refused; a closed store raises; small arrays are ordinary."""
    store = channels.store("a")
    with pytest.raises(TypeError, match="cannot be shared"):
        store.empty(3, object)
    assert store.empty(3).shape == (3,)
    assert store.empty((0, 5), "f8").shape == (0, 5)
    store.close()
    with pytest.raises(StoreError, match="is not open"):
        store.empty(SHAPE)


def test_arrays_that_are_kept_are_named(channels):
    """If kept arrays of this process use all memory, the error names them and no consumer."""
    channels.source("a")
    store = channels.store("a", max_bytes=8 << 20, hold_timeout_s=0.1)
    kept = []
    with pytest.raises(StoreError, match=r"arrays of empty\(\) .* in use here"):
        kept.extend(store.empty(SHAPE) for _ in range(20))
    del kept[:2]
    store.empty(SHAPE)
    kept.clear()


def test_memory_that_was_passed_on_comes_back_by_itself(channels):
    """A producer that waits for memory gets it when the last consumer frees it, even if the relay writes no more."""
    here, there = channels.source("a"), channels.source("b")
    first, second = channels.store("a", max_bytes=3 << 20, hold_timeout_s=20.0), channels.store("b")
    for turn in range(3):
        for number in range(3):  # these take all memory that there may be
            first.write([Record(frame(turn), seq=number)])
            second.write([one(here)])
        for _ in range(3):
            assert (one(there).data == turn).all()


def test_arrays_of_another_store_are_copied(channels):
    """An array of a store that another store writes arrives complete, whatever happens to its memory."""
    source, store, other = channels.source("a"), channels.store("a"), channels.store("b", wait_for_consumers=0)
    array = other.empty(SHAPE)
    array[...] = 3
    store.write([Record(array)])
    record = one(source)
    array[...] = 4
    other.close()
    assert (record.data == 3).all()


def test_a_received_array_is_passed_on(channels):
    """A record with a received array takes no memory for it in the next channel; its other fields may have changed."""
    here, there = channels.source("a"), channels.source("b")
    first, second = channels.store("a"), channels.store("b")
    kept = []
    for number in range(20):
        first.write([Record(frame(number), seq=number, channel="c")])
        second.write([one(here).with_metadata(hops=2, small=np.arange(3))])
        record = one(there)
        assert (record.data == number).all()
        assert (record.seq, record.metadata["hops"], record.metadata["small"].tolist()) == (number, 2, [0, 1, 2])
        kept.append(record)
    assert taken_bytes(second) <= READY_BYTES < sum(record.data.nbytes for record in kept)


def test_a_passed_on_array_is_not_overwritten(channels):
    """While the last consumer has it, the first producer does not reuse the memory, and reuses it afterwards."""
    here, there = channels.source("a"), channels.source("b")
    first, second = channels.store("a", max_bytes=40 << 20), channels.store("b")
    for turn in range(20):
        first.write([Record(frame(turn))])
        second.write([one(here)])
        record = one(there)
        overwrite(first, here)
        assert (record.data == turn).all()


@pytest.mark.parametrize("ends", ["the store", "the source", "both"])
def test_it_outlives_the_relay(channels, ends):
    """A passed-on array does not change after the store that passed it on has closed."""
    here, there, other = channels.source("a"), channels.source("b"), channels.source("a")
    first, second = channels.store("a"), channels.store("b")
    first.write([Record(frame(1))])
    one(other)
    second.write([one(here)])
    record = one(there)
    if ends != "the source":
        second.close()
    if ends != "the store":
        here.close()
        overwrite(first, other)
    else:
        for number in range(12):
            first.write([Record(frame(100), seq=number)])
            one(other)
            one(here)
    gc.collect()
    assert (record.data == 1).all()


@pytest.mark.parametrize("turn", range(40 if FULL else 4))
def test_a_killed_relay_takes_nothing_with_it(channels, start, turn):
    """Relays are killed at any moment: records that came through them stay intact, in the memory of any process."""
    chance = random.Random(turn)
    names = [f"hop {number}" for number in range(3 if turn % 2 else 2)]
    last, watcher = channels.source(names[-1]), channels.source(names[0])
    relays = [start("relay", *pair) for pair in itertools.pairwise(names)]
    for relay in relays:
        assert relay.hear() == "open"
    store = channels.store(names[0])
    count = chance.randrange(1, 12)
    kept = []
    for number in range(count):
        store.write([Record(frame(number), seq=number)])
        one(watcher)
        kept.append(one(last))
    for relay in chance.sample(relays, len(relays)):
        relay.kill()
    overwrite(store, watcher, 20)
    for number, record in enumerate(kept):
        assert (record.data == number).all(), number
    for relay in relays:
        relay.close()


def test_memory_comes_back_behind_killed_relays(channels, start):
    """Killed relays leave nothing: their memory is retired, and held memory is freed with its reader."""
    watcher, store = channels.source("a"), channels.store("a")
    for turn in range(6):
        last = channels.source(f"end {turn}")
        relay = start("relay", "a", f"end {turn}")
        assert relay.hear() == "open"
        while store.consumers() < 2:
            pass
        kept = []
        for number in range(5):
            store.write([Record(frame(number), seq=number)])
            one(watcher)
            kept.append(one(last))
        relay.kill()
        overwrite(store, watcher)
        assert [int(record.data[0, 0, 0]) for record in kept] == list(range(5))
        relay.close()
    assert taken_bytes(store) < 64 << 20
    assert len(store._producer._pool._numbers) > 60_000


def test_a_killed_reader_frees_what_was_passed_to_it(channels, start):
    """A consumer is killed with records that were passed on to it: their memory is used again."""
    here = channels.source("a")
    first = channels.store("a", max_bytes=40 << 20)
    for turn in range(3):
        reader = start("consume_and_stall", f"b {turn}", "8")
        assert reader.hear() == "open"
        second = channels.store(f"b {turn}")
        for number in range(8):
            first.write([Record(np.full(SHAPE, number, np.uint8), seq=number)])
            second.write([one(here)])
        assert reader.hear() == "stalled 8"
        reader.kill()
        for number in range(20):
            first.write([Record(frame(number))])
            second_records = one(here)
        del second_records
        reader.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(strategies.records(), min_size=1, max_size=4))
def test_parts_may_lie_apart(records):
    """A record is the same whether its bytes lie in one piece, or its buffers apart."""
    for record in records:
        try:
            head, *rest = encode(record)
        except CodecError:
            continue
        found = decode_parts(head, [memoryview(buffer) for buffer in rest[1::2]])
        assert b"".join(encode(found)) == b"".join([head, *rest])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_damaged_references_are_errors(noise, at):
    """Reading a referring block returns a record or raises a caught error, whatever its bytes."""
    store = ShmStore("fuzz", wait_for_consumers=0)
    owner = object()
    memory = Shared((LARGE_BYTES,), np.uint8)
    memory.segment, memory.owner = store, owner
    content, places = referring(encode(Record(np.ndarray((LARGE_BYTES,), np.uint8, memory.data))), owner)
    assert len(places) == 1
    damaged = bytearray(content)
    damaged[at : at + len(noise)] = noise

    def outside(number, start, size):
        if number or start + size > LARGE_BYTES:
            raise StoreError("outside")
        return memory.data[start : start + size]

    with contextlib.suppress(StoreError, CodecError):
        referred(memoryview(bytes(damaged)), outside)
