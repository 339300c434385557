"""Store and source in two real processes on loopback."""

from __future__ import annotations

import importlib.util
import signal
import time
from pathlib import Path

import pytest

from penstock.errors import EndOfSource, SourceError, StoreError
from penstock.record import Record
from penstock_zenoh.source import ZenohSource
from penstock_zenoh.store import ZenohStore

_spec = importlib.util.spec_from_file_location("zenoh_peer", Path(__file__).with_name("peer.py"))
peer_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(peer_module)
payload = peer_module.payload

WITHIN_S = 30


def read(source, count: int) -> list[Record]:
    """Read until `count` records have arrived."""
    records: list[Record] = []
    deadline = time.monotonic() + WITHIN_S
    while len(records) < count and time.monotonic() < deadline:
        records += source.read(count - len(records), 0.5)
    assert len(records) == count
    return records


def read_to_end(source) -> list[Record]:
    """Read until the source ends."""
    records: list[Record] = []
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        try:
            records += source.read(1000, 0.5)
        except EndOfSource:
            return records
    raise TimeoutError(f"no end after {len(records)} records")


def repeat(fn, *arguments, times=1000):
    """Call until it raises."""
    for _ in range(times):
        fn(*arguments)


def test_the_store_may_start_first(peer, opened, endpoint):
    """A store that starts first waits: the source that starts later receives everything."""
    store = peer("store", key="lab/{{ channel }}")
    store.do("open")
    store.tell("write", count=10)
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, until_end=True))
    assert [record.seq for record in read(source, 10)] == list(range(10))
    assert store.answer()["written"] == 10
    store.do("close")
    assert read_to_end(source) == []
    assert store.end() == 0


def test_the_source_may_start_first(peer, opened, endpoint):
    """A source that starts first waits for the store, and gets everything."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, until_end=True))
    store = peer("store", key="lab/{{ channel }}")
    for order in ({"do": "open"}, {"do": "write", "count": 10}, {"do": "close"}):
        store.do(**order)
    records = read_to_end(source)
    assert [(r.seq, r.channel, r.time_ns, r.data) for r in records] == [(n, "a", n, payload(n, 10)) for n in range(10)]


@pytest.mark.parametrize(("count", "size", "work_s", "most"), [(20_000, 1024, 0.005, 500), (200, 2_000_000, 0.01, 4)])
def test_a_slow_source_loses_nothing(peer, count, size, work_s, most):
    """Records and large frames arrive whole and in order at a source that is slower than the store."""
    source = peer("source", key="lab/**", until_end=True)
    source.do("open")
    store = peer("store", key="lab/{{ channel }}")
    store.do("open")
    source.tell("drain", size=size, work_s=work_s, most=most)
    store.do("write", count=count, size=size)
    store.do("close")
    answer = source.answer()
    assert (answer["count"], answer["wrong"], answer["error"], answer["lost"]) == (count, [], "", {})


def test_the_store_waits_for_a_source_that_does_not_read(peer, opened, endpoint):
    """The store is never more than the source's capacity ahead of its reader, and memory stays bounded."""
    capacity, count = 8, 100
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, until_end=True, capacity=capacity))
    store = peer("store", key="lab/{{ channel }}")
    store.do("open")
    before_mb = store.do("write", count=capacity, size=1_000_000, batch=1)["peak_mb"]
    store.tell("write", first=capacity, count=count - capacity, size=1_000_000, batch=1, tell=True)
    written, last = capacity, {}
    for n in range(count):
        (record,) = read(source, 1)
        assert record.seq == n
        assert record.data == payload(n, 1_000_000)
        while not store.lines.empty():
            last = store.answer()
            written = last["written"] if "peak_mb" not in last else written
        assert written <= n + 1 + capacity
    while "peak_mb" not in last:
        last = store.answer()
    store.do("close")
    assert read_to_end(source) == []
    assert last["peak_mb"] < before_mb + 40


def test_an_orderly_end_is_never_a_loss(peer, opened, endpoint):
    """Store and source that repeatedly close right after the last record report no error of the other."""
    source, store = peer("source", key="lab/**", until_end=True), peer("store", key="lab/{{ channel }}")
    for _ in range(30):
        source.do("open")
        store.do("open")
        source.tell("drain")
        store.do("write", count=10)
        store.tell("close")
        assert source.answer()["count"] == 10
        source.do("close")
        answer = store.answer()
        assert "error" not in answer, answer


def test_a_frame_of_8_mb_arrives(peer, opened, endpoint):
    """A payload far larger than a packet of zenoh arrives whole."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    store = peer("store", key="lab/{{ channel }}")
    store.do("open")
    store.tell("write", count=3, size=8_000_000)
    for n, record in enumerate(read(source, 3)):
        assert record.data == payload(n, 8_000_000)
    store.answer()
    store.do("close")


def test_a_killed_store_is_reported_by_name(peer, opened, endpoint):
    """When a store is killed, the source returns all records that it sent, then an error that names its process."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, until_end=True))
    store = peer("store", key="lab/{{ channel }}")
    store.do("open")
    store.do("write", count=20)
    store.do("sync")
    store.kill()
    assert len(read(source, 20)) == 20
    start = time.monotonic()
    with pytest.raises(SourceError, match=rf"process {store.process.pid} on .*after record 20"):
        repeat(source.read, 10, 5.0)
    assert time.monotonic() - start < 5


def test_a_source_for_ever_outlives_a_killed_store(peer, opened, endpoint, caplog):
    """Without `until_end` a killed store is a warning, and the next store's records follow without a discontinuity."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    for _ in range(2):
        store = peer("store", key="lab/{{ channel }}")
        store.do("open")
        store.do("write", count=5)
        records = read(source, 5)
        assert [(r.seq, r.discontinuity) for r in records] == [(n, False) for n in range(5)]
        store.kill()
        deadline = time.monotonic() + WITHIN_S
        while f"process {store.process.pid}" not in caplog.text and time.monotonic() < deadline:
            assert source.read(10, 1.0) == ()
        assert "vanished without closing after record 5" in caplog.text
    assert source.lost_upstream() == {}


def test_a_killed_source_is_an_error_of_the_store(peer, opened, endpoint):
    """When a source is killed with untaken records, the store's sync reports them once and names the source."""
    source = peer("source", key="lab/**")
    source.do("open")
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint, timeout_s=5))
    store.write([Record(b"x", seq=seq) for seq in range(7)])
    store.sync()
    source.kill()
    with pytest.raises(StoreError, match=rf"process {source.process.pid} on .* left 7 records untaken"):
        repeat(store.sync)  # until the broken connection has been seen
    store.sync()


def test_a_frozen_source_is_an_error_not_a_wait_for_ever(peer, opened, endpoint):
    """A source whose process is stopped amid large frames ends in an error within a bounded time."""
    source = peer("source", key="lab/**", capacity_bytes=1_000_000_000)
    source.do("open")
    lease = {"transport": {"link": {"tx": {"lease": 2000}}}}
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint, timeout_s=2, config=lease))
    store.write([Record(b"x")])
    source.process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(StoreError, match="0 of 1 sources subscribe"):
        repeat(store.write, [Record(bytes(1_000_000))], times=10_000)
    assert time.monotonic() - start < 20
    with pytest.raises(StoreError, match=rf"process {source.process.pid} on .* untaken records"):
        store.sync()


def test_a_store_waits_for_a_source_that_comes_back(peer, opened, endpoint):
    """After its only source has gone, a store sends on to the next one, and loses nothing in between."""
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint))
    first = peer("source", key="lab/a")
    first.do("open")
    store.write([Record(b"x", seq=0)])
    assert first.do("read", most=1, timeout_s=10)["seqs"] == [0]
    first.do("close")
    second = peer("source", key="lab/a")
    second.tell("open")
    store.write([Record(b"x", seq=1)])
    second.answer()
    assert second.do("read", most=1, timeout_s=10)["seqs"] == [1]


def test_a_source_ends_when_both_stores_have(peer, opened, endpoint):
    """With two publishers the source ends after the second one's end, with all records of both."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, until_end=True, publishers=2))
    one, two = peer("store", key="lab/{{ channel }}"), peer("store", key="lab/{{ channel }}")
    for store, channel in ((one, "one"), (two, "two")):
        store.do("open")
        store.do("write", count=30, channel=channel)
    one.do("close")
    records = read(source, 60)
    assert source.read(10, 0.2) == ()
    two.do("write", count=5, first=30, channel="two")
    two.do("close")
    records += read_to_end(source)
    for channel, count in (("one", 30), ("two", 35)):
        assert [record.seq for record in records if record.channel == channel] == list(range(count))


def test_every_source_gets_everything(peer):
    """Two sources both get all records, the slower one sets the pace."""
    sources = [peer("source", key="lab/**", until_end=True, capacity=16) for _ in range(2)]
    for source in sources:
        source.do("open")
    store = peer("store", key="lab/{{ channel }}", wait_for_subscribers=2)
    store.do("open")
    for source, work_s in zip(sources, (0.0, 0.01), strict=True):
        source.tell("drain", size=1000, work_s=work_s, most=8)
    store.do("write", count=500, size=1000)
    store.do("close")
    for source in sources:
        answer = source.answer()
        assert (answer["count"], answer["wrong"], answer["error"]) == (500, [], "")


def test_a_process_that_forgets_to_close_ends_all_the_same(peer):
    """A program that ends without close() does not hang."""
    source, store = peer("source", key="lab/**"), peer("store", key="lab/a")
    for each in (source, store):
        each.do("open")
    store.do("write", count=10)
    assert store.end() == 0
    assert source.end() == 0
