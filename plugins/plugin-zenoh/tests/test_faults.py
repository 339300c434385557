"""Faults around a working network: HEROs that restart, clocks that jump, slow disks, routers that restart."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import zenoh

import penstock as ps
from penstock.builtin.memory import MemoryStore
from penstock.record import Record
from penstock_zenoh.hero.cbor_out import encode
from penstock_zenoh.hero.source import HeroSource
from penstock_zenoh.hero.store import HeroStore
from penstock_zenoh.session import Network
from penstock_zenoh.source import ZenohSource
from penstock_zenoh.store import ZenohStore

FULL = os.environ.get("PENSTOCK_FAULTS") == "full"
WITHIN_S = 60


def stored(run, count: int, node: str = "kept") -> None:
    """Wait until a store has this number of records."""
    deadline = time.monotonic() + WITHIN_S
    while run.stats().node(node).stored < count:
        assert time.monotonic() < deadline, str(run.stats())
        run.wait(0.02)


@pytest.mark.parametrize("bounds", [True, False])
def test_a_hero_that_is_killed_and_started_again_under_the_same_name(bounds, heros, endpoint):
    """Its count restarts: no gap, no record twice; an acquisition that it left open is not complete."""
    source = HeroSource(
        object_selector="cam", event_name="acquisition_data", sequence_key="frame", listen=[endpoint], timeout_s=20
    )
    kept = MemoryStore()
    with ps.Pipeline(ps.source(source, name="heros") >> ps.store(kept, name="kept")).start() as run:
        for round_ in range(2):
            camera = heros("camera", connect=[endpoint], name="cam")
            camera.do("wait", event="acquisition_data")
            camera.do("run", frames=5, bounds=bounds, stopped=bool(round_))
            stored(run, 5 * (round_ + 1))
            if not round_:
                camera.kill()
    records = [kept.get(key) for key in list(kept.keys())]
    assert [record.metadata["frame"] for record in records] == [*range(5), *range(5)]
    assert [record.seq for record in records] == list(range(10))
    assert run.report.lost_upstream == 0, str(run.report)
    assert any("HERO 'cam' of realm 'heros' appeared" in note for note in run.report.notes)
    if bounds:
        assert run.report.exit_code != 0
        assert "no stop event arrived: not complete" in str(run.report)
        assert any("arrived 5, stored 5: complete" in note for note in run.report.notes)
    else:
        assert run.report.ok, str(run.report)
        assert any("restarted 1 times" in remark for remark in run.report.remarks)


@pytest.mark.parametrize("by_s", [-86_400, 86_400])
def test_clocks_that_jump(by_s, endpoint, opened, monkeypatch):
    """A wall clock that jumps a day with each call changes times only: no loss, no wait, no early end."""
    real = time.time_ns
    looks = iter(range(1_000_000))
    monkeypatch.setattr(time, "time_ns", lambda: real() + next(looks) % 2 * by_s * 1_000_000_000)
    source = HeroSource(
        object_selector="cam", event_name="data", listen=[endpoint], bounds=(), sequence_key="n", until_silent_s=1.0
    )
    pipeline = ps.Pipeline(ps.source(source, name="cam") >> ps.store("null", name="kept"))
    run = pipeline.start()
    hero = HeroStore(hero="cam", event_name="data", connect=[endpoint], wait_for_observers=True)
    hero.open()
    for number in range(50):
        hero.write([Record(number, metadata={"n": number})])
    hero.close()
    report = run.wait(WITHIN_S)
    assert (report.stored, report.lost_upstream) == (50, 0), str(report)
    assert report.ok


def test_clocks_that_jump_on_a_link(endpoint, opened, monkeypatch):
    """A store and a source whose wall clocks jump back and forth lose nothing, and confirm at once."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, until_end=True))
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint))
    real, looks = time.time, iter(range(1_000_000))
    monkeypatch.setattr(time, "time", lambda: real() - next(looks) % 2 * 86_400)
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))
    store.write([Record(b"%d" % n, seq=n) for n in range(500)])
    store.sync()
    store.close()
    records: list[Record] = []
    while len(records) < 500:
        records += source.read(1000, 5)
    assert [record.seq for record in records] == list(range(500))
    assert source.lost_upstream() == {}


class SlowDisk:
    """A store that takes 2 ms for a record of 256 KiB."""

    takes = "any"

    def open(self):
        self.seqs: list[int] = []

    def write(self, records):
        for record in records:
            time.sleep(0.002)
            self.seqs.append(record.seq)

    def sync(self):
        pass

    def close(self):
        pass


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_publisher_that_is_faster_than_the_disk(peer, endpoint):
    """For a minute (some seconds on CI) a publisher sends all it can: it waits, memory is flat, nothing is lost."""
    seconds, size = (60 if FULL else 4), 256 * 1024
    source = ZenohSource(key="lab/a", rendezvous=endpoint, raw=True, capacity=64)
    disk = SlowDisk()
    pipeline = ps.Pipeline(
        ps.source(source, name="lab") >> ps.edge(capacity=64) >> ps.store(disk, name="disk", retry=ps.Retry(times=1))
    )
    with pipeline.start() as run:
        publisher = peer("foreign", key="lab/a", count=10**9, size=size)
        stored(run, 200, "disk")
        before_mb = resident_mb()
        most_mb = before_mb
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            run.wait(0.1)
            most_mb = max(most_mb, resident_mb())
        publisher.kill()
    written = [publisher.answer().get("written", 0) for _ in range(publisher.lines.qsize())]
    assert run.report.ok, str(run.report)
    assert disk.seqs == list(range(len(disk.seqs)))
    assert most_mb < before_mb + 100
    assert max(written) <= len(disk.seqs) + 64 * 2 + 128  # what was on its way when it was killed


@pytest.mark.parametrize("kind", ["hero", "zenoh"])
def test_what_waits_is_bounded_in_bytes(kind, endpoint, opened):
    """Unread events hold their sender back by their bytes, whatever their number; then all are read."""
    count, limits = 30_000, {"listen": [endpoint], "capacity": 100_000, "capacity_bytes": 1 << 20}
    if kind == "hero":
        source = opened(HeroSource(object_selector="cam", event_name="data", bounds=(), **limits))
        key, payload = "@object/heros/cam/data", encode([b"x" * 1024, {}])
    else:
        source = opened(ZenohSource(key="lab/a", raw=True, **limits))
        key, payload = "lab/a", b"x" * 1024
    session = Network(connect=(endpoint,)).open()
    publisher = session.declare_publisher(key, congestion_control=zenoh.CongestionControl.BLOCK)
    while not publisher.matching_status.matching:
        pass
    sent = []

    def send():
        for number in range(count):
            publisher.put(payload)
            sent.append(number)

    sender = threading.Thread(target=send)
    sender.start()
    stands_still = 0
    while stands_still < 20:
        before = len(sent)
        sender.join(0.05)
        stands_still = stands_still + 1 if len(sent) == before else 0
    assert 1000 < len(sent) < 20_000  # 1 MiB, the channel, and the queues and sockets of both ends
    got = 0
    while got < count:
        got += len(source.read(500, 5))
    sender.join()
    session.close()
    assert got == count


def test_a_router_that_is_killed_between_a_store_and_a_source(peer, endpoint):
    """Clients of a router that dies and restarts lose nothing: the store repeats messages that had not arrived."""
    router = peer("source", rendezvous=endpoint, key="none", mode="router")
    router.do("open")
    source = ZenohSource(key="lab/**", connect=[endpoint], mode="client", until_end=True)
    store = ZenohStore(key="lab/a", connect=[endpoint], mode="client")
    kept = MemoryStore()
    with ps.Pipeline(ps.source(source, name="lab") >> ps.store(kept, name="kept")).start() as run:
        store.open()
        store.write([Record(b"x", channel="a", seq=n) for n in range(100)])
        stored(run, 50)
        router.kill()
        store.write([Record(b"x", channel="a", seq=n) for n in range(100, 200)])
        again = peer("source", rendezvous=endpoint, key="none", mode="router")
        again.do("open")
        store.write([Record(b"x", channel="a", seq=n) for n in range(200, 300)])
        store.sync()
        store.close()
        report = run.wait(WITHIN_S)
    assert report is not None
    assert report.ok, str(report)
    assert [kept.get(key).seq for key in list(kept.keys())] == list(range(300))
    again.do("close")
