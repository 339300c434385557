"""The channel: source and store `shm`, between processes."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import threading
import warnings

import numpy as np
import pytest

from penstock.coords import DataCoordinates
from penstock.errors import CannotConnectToStoreError, ConfigError, EndOfSource, SourceError, StoreError
from penstock.record import Record
from penstock.testing import assert_same_record
from penstock_shm import ShmSource, ShmStore, leftovers
from penstock_shm.channel import pool
from penstock_shm.channel import producer as producing
from penstock_shm.channel.pool import new_memory


def read_all(source, patience_s=20.0):
    """Read until the end."""
    records = []
    while True:
        try:
            found = source.read(1000, patience_s)
        except EndOfSource:
            return records
        assert found, "nothing came"
        records.extend(found)


@pytest.fixture
def source():
    source = ShmSource("test", until_end=True)
    source.open()
    yield source
    source.close()


def test_records_cross_processes_whole_and_in_order(source, start):
    """What another process writes arrives, in order, with every field, and then the end."""
    peer = start("produce", "test", 200, 1000)
    records = read_all(source)
    peer.end()
    assert [r.seq for r in records] == list(range(200))
    assert all((r.data == r.seq).all() and r.channel == "camera" for r in records)
    assert source.lost_upstream() == {}


def test_every_kind_of_record(source):
    """Bytes, mappings, empty and large arrays, coordinates and metadata come as they went, many in one write."""
    sent = [
        Record(b"", channel="a", seq=0),
        Record(b"x" * 100_000, channel="a", seq=1, metadata={"k": [1, None]}),
        Record({"a": 1}, channel="b", seq=0, time_ns=5),
        Record(np.zeros((0, 3)), channel="b", seq=1),
        Record(np.arange(3_000_000).reshape(3, 1000, 1000), channel="b", seq=2, discontinuity=True),
        Record(np.arange(10)[::2], channel="b", seq=3),
    ]
    store = ShmStore("test")
    store.open()
    thread = threading.Thread(target=store.write, args=(sent,))
    thread.start()  # what is large may have to wait for what was written before
    got = [record for _ in sent for record in source.read(1, 20.0)]
    thread.join(20)
    store.close()
    for one, other in zip(sent, got, strict=True):
        assert (one.channel, one.seq, one.time_ns, one.discontinuity) == (
            other.channel,
            other.seq,
            other.time_ns,
            other.discontinuity,
        )
        assert dict(one.metadata) == dict(other.metadata)
        assert np.array_equal(one.data, other.data) if isinstance(one.data, np.ndarray) else one.data == other.data


def test_producer_may_exit_at_once(source, start):
    """A producer that writes, closes and exits before anything is read loses nothing."""
    start("produce", "test", 10, 100_000).end()
    assert [r.seq for r in read_all(source)] == list(range(10))


def test_producer_waits_for_a_slow_consumer(start):
    """A consumer that does not read makes the producer wait, and gets everything in the end."""
    source = ShmSource("test", until_end=True)
    source.open()
    peer = start("produce", "test", 2000, 100_000)
    assert peer.hear() == "open"
    (first,) = source.read(1, 20.0)
    assert first.seq == 0
    with pytest.raises(subprocess.TimeoutExpired):
        peer.process.wait(1.0)
    assert [first.seq, *(r.seq for r in read_all(source))] == list(range(2000))
    peer.end()
    source.close()


def test_many_producers_and_consumers(start):
    """Each of two consumers gets everything that each of three producers wrote."""
    consumers = [start("consume", "test") for _ in range(2)]
    assert [c.hear() for c in consumers] == ["open", "open"]
    own = ShmStore("test", wait_for_consumers=2)  # keeps the channel from ending before all have come
    own.open()
    producers = [start("produce", "test", 100, 1000, f"camera {i}") for i in range(3)]
    for producer in producers:
        producer.end()
    own.write([Record(np.full(3, 7, np.uint32), seq=7)])
    own.close()
    assert [c.hear() for c in consumers] == ["ended 301 0 0"] * 2


def test_array_is_read_in_place_and_read_only(source):
    """An array that is read lies in shared memory, cannot be written, and two reads of it are one memory."""
    store = ShmStore("test")
    store.open()
    other = ShmSource("test")
    other.open()
    store.write([Record(np.arange(1000))])
    (one,), (two,) = source.read(1, 5.0), other.read(1, 5.0)
    assert not one.data.flags.writeable
    assert not one.data.flags.owndata
    with pytest.raises(ValueError, match=r"WRITEABLE|read-only"):
        one.data.flags.writeable = True
    assert np.array_equal(one.data, two.data)
    store.close()
    other.close()


def test_record_stays_valid_until_released(source):
    """A record that is kept is not overwritten by later writes or by closing either side; a view suffices."""
    store = ShmStore("test")
    store.open()
    store.write([Record(np.full(200_000, 1), seq=0)])
    (record,) = source.read(1, 5.0)
    view = record.data[100:200]
    del record
    for number in range(2, 60):
        store.write([Record(np.full(200_000, number), seq=number)])
        assert len(source.read(1, 5.0)) == 1
    source.close()
    store.close()
    gc.collect()
    assert (view == 1).all()


def test_memory_is_used_again(source):
    """Memory is reused when records are released: a long run takes no more than a short one."""
    store = ShmStore("test", max_bytes=32 << 20)
    store.open()
    for number in range(200):
        store.write([Record(np.full(1_000_000, number % 250, np.uint8), seq=number)])
        (record,) = source.read(1, 5.0)
        assert (record.data == number % 250).all()
    store.close()


def test_the_first_frame_finds_memory_ready(source, monkeypatch):
    """Memory for the first frame is allocated when the store opens; later frames reuse it."""
    made = []
    monkeypatch.setattr(producing, "new_memory", lambda *what: made.append(what) or new_memory(*what))
    store = ShmStore("test")
    store.open()
    assert len(made) == 1, "and the consumer has it before the first frame"
    monkeypatch.setattr(pool, "new_memory", None)
    for number in range(20):
        store.write([Record(np.full(6_000_000, number, np.uint8), seq=number)])
        (record,) = source.read(1, 5.0)
        assert (record.data == number).all()
        del record
    store.close()


def test_memory_grows_with_the_records(source):
    """Records of very different sizes share a channel without a size being set."""
    store = ShmStore("test")
    store.open()
    sizes = [1, 5_000_000, 17, 40_000, 1_000_000, 300, 5_000_001, 9_000_000, 3]
    for number, size in enumerate(sizes * 3):
        store.write([Record(bytes([number]) * size, seq=number)])
        (record,) = source.read(1, 5.0)
        assert bytes(record.data) == bytes([number]) * size
    store.close()


def test_consumer_that_holds_too_much_is_named(start):
    """A consumer that keeps all records is named in an error with its process and what it holds."""
    store = ShmStore("test", max_bytes=8 << 20, hold_timeout_s=0.3)
    peer = start("consume_and_keep", "test")
    assert peer.hear() == "open"
    store.open()
    records = [Record(np.zeros(1 << 18, np.uint32), seq=number) for number in range(100)]
    with pytest.raises(StoreError, match=rf"peer\.py \(process {peer.pid}\) holds \d+ blocks.*max_bytes") as caught:
        store.write(records)
    assert 0 < len(caught.value.failed) < 100, "those that were not published are named"
    peer.kill()
    late = start("consume", "test")
    assert late.hear() == "open"
    store.write([Record(np.full(10, 5, np.uint32), seq=5)])
    store.close()
    assert late.hear() == "ended 1 0 0"


def test_small_records_of_every_kind(source):
    """Small packets come as they went, with metadata and coordinates, also those that no bundle can hold."""
    plain = [
        Record(b"%d" % i, channel="c", seq=i, time_ns=-i, coords=DataCoordinates(t=i) if i % 2 else DataCoordinates())
        for i in range(3000)
    ]
    kinds = [{"a": 1, "b": 2.5, "c": None, "d": True, "e": "x"}, {"big": 2**80}, {"half": "\ud800"}, {"n": [1]}]
    odd = [Record(b"x", channel="d", seq=i, metadata=m) for i, m in enumerate(kinds)]
    store = ShmStore("test")
    store.open()
    store.write(plain)
    store.write(odd)
    for record in odd:
        store.write([record])
    store.close()
    got = read_all(source)
    assert len(got) == 3008
    for one, other in zip([*plain, *odd, *odd], got, strict=True):
        assert_same_record(one, other)


def test_nobody_there(place):
    """Without a consumer `write` raises after its timeout, or, if configured, counts the discarded records."""
    store = ShmStore("test", consumer_timeout_s=0.05)
    store.open()
    with pytest.raises(StoreError, match="0 of 1 consumers are attached"):
        store.write([Record(b"x")])
    store.close()
    store = ShmStore("test", wait_for_consumers=0)
    store.open()
    store.write([Record(b"x"), Record(b"y")])
    assert store.sent_to_nobody == 2
    store.close()


def test_closing_ends_a_write_that_waits():
    """`close` from another thread ends a `write` that waits, with a StoreError."""
    store = ShmStore("test", consumer_timeout_s=None)
    store.open()
    errors = []

    def write():
        try:
            store.write([Record(b"x")])
        except StoreError as error:
            errors.append(str(error))

    thread = threading.Thread(target=write)
    thread.start()
    store.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "clos" in errors[0] or "not open" in errors[0]


def test_latest_never_brakes_and_counts(start):
    """A viewer that does not read delays no producer, then receives the newest record, and its losses are exact."""
    viewer = ShmSource("test", latest=True, until_end=True)
    viewer.open()
    store = ShmStore("test")
    store.open()
    for number in range(500):
        store.write([Record(np.full(10_000, number), channel=c, seq=number) for c in ("a", "b")])
    records = viewer.read(10, 10.0)
    assert {(r.channel, r.seq, r.discontinuity) for r in records} == {("a", 499, True), ("b", 499, True)}
    assert viewer.dropped_upstream() == {"a": 499, "b": 499}
    assert viewer.lost_upstream() == {}
    store.write([Record(np.full(10_000, 500), channel="a", seq=500)])
    (record,) = viewer.read(10, 10.0)
    assert (record.seq, record.discontinuity) == (500, False)
    store.close()
    with pytest.raises(EndOfSource):
        viewer.read(1, 10.0)
    viewer.close()


def test_viewer_beside_archive(source, start):
    """Beside a viewer that stands still, a lossless consumer gets everything."""
    viewer = start("consume", "test", 0, "latest")
    assert viewer.hear() == "open"
    peer = start("produce", "test", 300, 10_000)
    assert [r.seq for r in read_all(source)] == list(range(300))
    peer.end()


def test_late_consumer_and_return(source, start):
    """A consumer may attach late, leave and return: it receives the records written while it is attached."""
    store = ShmStore("test")
    store.open()
    store.write([Record(b"0", seq=0)])
    late = ShmSource("test")
    late.open()
    store.write([Record(b"1", seq=1)])
    assert [r.seq for r in late.read(10, 5.0)] == [1]
    late.close()
    store.write([Record(b"2", seq=2)])
    late.open()
    store.write([Record(b"3", seq=3)])
    assert [r.seq for r in late.read(10, 5.0)] == [3]
    late.close()
    store.close()
    assert [r.seq for r in read_all(source)] == [0, 1, 2, 3]


def test_killed_producer_is_reported_and_replaced(source, start):
    """When a producer is killed, its published records arrive, its death is reported, and the next continues."""
    peer = start("produce", "test", 0, 500_000)
    got = list(source.read(5, 20.0))
    peer.kill()
    with pytest.raises(SourceError, match=f"process {peer.pid}.* died without closing"):
        got.extend(record for _ in range(1000) for record in source.read(100, 20.0))
    assert [r.seq for r in got] == list(range(len(got)))
    assert all((r.data == r.seq).all() for r in got)
    assert sum(source.lost_upstream().values()) <= 1
    start("produce", "test", 3, 10)
    after = read_all(source)
    assert [r.seq for r in after] == [0, 1, 2]
    assert [r.discontinuity for r in after] == [True, False, False]


def test_killed_consumer_lets_the_producer_go_on(source, start):
    """When a consumer that holds records and has unread ones is killed, the producer continues with the others."""
    stalled = start("consume_and_stall", "test", 3)
    assert stalled.hear() == "open"
    peer = start("produce", "test", 500, 100_000)
    assert stalled.hear() == "stalled 3"
    got = list(source.read(1, 20.0))
    stalled.kill()
    got += read_all(source)
    assert [r.seq for r in got] == list(range(500))
    peer.end()


def test_held_records_outlive_a_killed_producer(start):
    """Records that a consumer holds stay whole when their producer is killed."""
    stalled = start("consume_and_stall", "test", 5)
    assert stalled.hear() == "open"
    peer = start("produce", "test", 0, 1_000_000)
    assert stalled.hear() == "stalled 5"
    peer.kill()
    stalled.tell()
    assert stalled.hear() == "intact"


def test_exclusive_producer(start):
    """Of two runs with one channel name, the second is refused with the process of the first."""
    store = ShmStore("test", exclusive=True)
    store.open()
    peer = start("produce", "test", 1, 1)
    assert f"CannotConnectToStoreError shm channel 'test' has a producer already (process {os.getpid()})" in peer.hear()
    other = ShmStore("test", exclusive=True)
    with pytest.raises(CannotConnectToStoreError, match="only one"):
        other.open()
    store.close()
    other.open()
    other.close()


def test_exclusive_name_is_free_after_kill(start):
    """The name of a killed exclusive producer is free at once, without cleaning."""
    peer = start("produce", "test", 1, 1, "c", "exclusive")
    assert peer.hear() == "open"
    peer.kill()
    assert [left.kind for left in leftovers()] == ["channel"]
    store = ShmStore("test", exclusive=True)
    store.open()
    store.close()
    assert leftovers() == []


def test_nothing_is_left_in_the_directory(source, place, start):
    """While a channel works, only sockets are in the directory; afterwards nothing is."""
    start("produce", "test", 50, 1_000_000)
    read_all(source)
    files = [p for p in place.rglob("*") if p.is_file()]
    assert files == []
    source.close()
    assert list(place.rglob("*")) == []


def test_descriptors_come_back():
    """A channel that is closed has given back every descriptor, at once."""
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    gc.disable()
    try:
        for number in range(20):
            source, store = ShmSource("test"), ShmStore("test")
            source.open()
            store.open()
            store.write([Record(np.full(1_000_000, number), seq=number)])
            assert len(source.read(1, 5.0)) == 1
            store.close()
            source.close()
        del source, store
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_fork_after_opening_is_refused():
    """A fork cannot use its parent's source or store: both raise, and the parent continues."""
    source, store = ShmSource("test"), ShmStore("test")
    source.open()
    store.open()
    store.write([Record(np.full(100_000, 3), seq=3)])
    (record,) = source.read(1, 5.0)

    def child(pipe):
        for use in (lambda: source.read(1, 0), lambda: store.write([Record(b"x")])):
            try:
                use()
                pipe.send("nothing")
            except (SourceError, StoreError) as error:
                pipe.send(str(error))
        source.close()
        store.close()
        pipe.close()

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks is the point
        process = context.Process(target=child, args=(there,))
        process.start()
    there.close()
    said = [here.recv(), here.recv()]
    process.join(20)
    process.close()
    here.close()
    assert all("fork" in text and "open a" in text for text in said)
    for number in range(20):
        store.write([Record(np.full(100_000, number), seq=number)])
        assert len(source.read(1, 5.0)) == 1
    assert (record.data == 3).all()
    store.close()
    source.close()


def test_death_is_seen_although_a_fork_lives(start):
    """A child that a consumer forked does not keep the dead consumer attached: the producer sees no consumer."""
    peer = start("consume_and_fork", "test")
    assert peer.hear() == "forked"
    store = ShmStore("test", consumer_timeout_s=0.2)
    store.open()
    store.write([Record(b"x")])
    assert peer.hear() == "read"
    peer.kill()
    with pytest.raises(StoreError, match="0 of 1 consumers"):
        store.write([Record(bytes(300_000), seq=i) for i in range(100)])
    store.close()


def test_any_channel_name():
    """Names with slashes, dots, umlauts, or of great length are channels of their own; empty ones are refused."""
    names = ["a/b", "..", ".", "Å", "x" * 3000, "x" * 3001, "%2e"]
    ends = [(ShmSource(n), ShmStore(n)) for n in names]
    for number, (source, store) in enumerate(ends):
        source.open()
        store.open()
        store.write([Record(b"x", seq=number)])
    for number, (source, store) in enumerate(ends):
        assert [r.seq for r in source.read(10, 5.0)] == [number]
        store.close()
        source.close()
    for wrong in ("", "a\0b"):
        with pytest.raises(ConfigError):
            ShmStore(wrong)


def test_no_memory_is_a_clear_error(source):
    """A record that is larger than memory is a StoreError that names the available memory; smaller ones are written."""
    store = ShmStore("test", max_bytes=1 << 20)
    store.open()
    with pytest.raises(StoreError, match="max_bytes=1048576"):
        store.write([Record(bytes(4 << 20))])
    store.write([Record(b"x", seq=1)])
    store.close()
    assert [r.seq for r in read_all(source)] == [1]
