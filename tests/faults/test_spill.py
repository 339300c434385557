"""An edge that spills: nothing is lost, the order is kept, files are bounded and gone at the end, a restart goes on."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import RunAborted, RunError
from penstock.run.edges.chunk import END, MOST_AT_ONCE, Barrier, Chunk
from penstock.run.edges.edge import LiveEdge
from penstock.run.edges.inbox import Inbox
from penstock.testing.leaks import no_leaks


@pytest.fixture(autouse=True)
def _clean(tmp_path, monkeypatch):
    """No thread and no file stays open."""
    monkeypatch.chdir(tmp_path)
    with no_leaks():
        yield


def spilling(directory, *, capacity=4, file_bytes=2000, size=""):
    """Return an edge that spills into small files, opened."""
    inbox = Inbox()
    edge = LiveEdge(inbox, "a >> b", ps.edge(capacity=capacity, when_full=f"spill({directory}{size})"))
    edge._spill.files.file_bytes = file_bytes
    edge.open()
    return inbox, edge


def numbers(start, count, data=b"x" * 100):
    return [ps.Record(data, channel="ab"[n % 2], seq=n) for n in range(start, start + count)]


def logs(directory):
    return sorted(Path(directory).glob("*.log"))


acts = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 9)),
    st.tuples(st.just("take"), st.integers(1, 12)),
    st.tuples(st.just("odd"), st.integers(1, 3)),
    st.just(("barrier", 0)),
)


@given(plan=st.lists(acts, max_size=60), capacity=st.integers(1, 12), file_bytes=st.sampled_from([600, 3000, 2**20]))
@settings(max_examples=150, deadline=None)
def test_it_is_a_queue(plan, capacity, file_bytes, tmp_path_factory):
    """Whatever is put and taken in whatever order comes out as it went in: records, barriers, what no file can hold."""
    directory = tmp_path_factory.mktemp("spill")
    inbox, edge = spilling(directory, capacity=capacity, file_bytes=file_bytes)
    put, got, number, barrier = [], [], 0, 0

    def take(most):
        item = inbox.get(0, most)
        if isinstance(item, Chunk):
            got.extend(record.seq for record in item.records)
        elif item is not None:
            got.append(item)
        return item

    for act, argument in plan:
        if act in ("put", "odd"):
            if not edge._spill.has_room():
                continue  # it would wait for a reader
            edge.put(1, numbers(number, argument, b"x" * 100 if act == "put" else threading.Lock()))
            put.extend(range(number, number + argument))
            number += argument
        elif act == "barrier":
            barrier += 1
            put.append(Barrier(barrier))
            edge.control(put[-1])
        elif act == "take":
            take(argument)
        taken = sum(isinstance(each, int) for each in got)
        assert edge.put_count == taken + edge.waiting
        assert edge._spill._memory <= 3 * capacity + 9
    edge.control(END)
    while take(5) is not END:
        pass
    assert got[:-1] == put
    assert edge.put_count == edge.taken_count == number
    assert edge.waiting == edge.waiting_bytes == edge.recovered_count == edge.kept_count == 0
    assert list(directory.iterdir()) == []


@given(plan=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=30), capacity=st.integers(1, 8))
@settings(max_examples=80, deadline=None)
def test_an_abort_leaves_the_files_to_the_next_run(plan, capacity, tmp_path_factory):
    """What an abort finds in the files comes first in the next run, once; memory is lost; every record is counted."""
    directory = tmp_path_factory.mktemp("spill")
    inbox, edge = spilling(directory, capacity=capacity)
    got, number = [], 0
    for count, taken in plan:
        edge.put(1, numbers(number, count))
        number += count
        if taken and isinstance(chunk := inbox.get(0, taken), Chunk):
            got += [record.seq for record in chunk.records]
    inbox.abort()
    inbox.abort()
    assert number == len(got) + edge.lost_count + edge.kept_count
    assert edge.waiting == 0
    again, second = spilling(directory, capacity=capacity)
    second.put(1, numbers(10_000, 3))
    second.control(END)
    left = []
    while isinstance(chunk := again.get(0), Chunk):
        left += list(chunk.records)
    assert chunk is END
    old = [record.seq for record in left if record.seq < 10_000]
    assert len(old) == edge.kept_count
    first = old[0] if old else 0
    assert old == list(range(first, first + len(old)))  # what came later may have been in memory, and is lost
    assert not set(old) & set(got)
    assert [record.seq for record in left][len(old) :] == [10_000, 10_001, 10_002]
    assert second.recovered_count == edge.kept_count
    assert second.put_count + second.recovered_count == second.taken_count
    firsts = {record.channel: record for record in reversed(left[: len(old)])}
    assert all(record.discontinuity == (record is firsts[record.channel]) for record in left[: len(old)])
    fresh = {record.channel: record for record in reversed(left[len(old) :])}
    assert all(record.discontinuity == (channel in firsts) for channel, record in fresh.items())
    assert list(directory.iterdir()) == []


def test_files_of_a_killed_run_are_read_first(tmp_path):
    """Files that a killed process left, torn at the end or damaged, are read as far as they are whole."""
    inbox, edge = spilling(tmp_path / "s", capacity=1, file_bytes=1)
    for number in range(5):
        edge.put(1, numbers(number, 1))
    files = logs(tmp_path / "s")
    assert len(files) == 4  # the first is in memory
    copies = {path.name: path.read_bytes() for path in files}
    inbox.abort()
    for path in tmp_path.joinpath("s").iterdir():
        path.unlink()
    torn, damaged = sorted(copies)[3], sorted(copies)[1]
    copies[torn] = copies[torn][:-7]
    copies[damaged] = copies[damaged][:-3] + b"???"
    for name, content in copies.items():
        (tmp_path / "s" / name).write_bytes(content)
    inbox, edge = spilling(tmp_path / "s", capacity=1)
    edge.control(END)
    left = []
    while isinstance(chunk := inbox.get(0), Chunk):
        left += [record.seq for record in chunk.records]
    assert left == [1, 3]
    assert edge.recovered_count == 2
    assert [path.name for path in (tmp_path / "s").iterdir()] == [damaged.replace(".log", ".damaged")]


def test_the_files_are_bounded(tmp_path):
    """When the files are as large as they may be, the edge blocks until something has been taken."""
    inbox, edge = spilling(tmp_path / "s", capacity=1, size=", 1 MiB")
    large = bytes(100_000)
    put = threading.Event()

    def fill():
        for number in range(30):
            edge.put(1, numbers(number, 1, large))
        put.set()
        edge.control(END)

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        got = []
        assert not put.wait(0.3)
        assert sum(path.stat().st_size for path in logs(tmp_path / "s")) <= 1_300_000
        while isinstance(chunk := inbox.get(10), Chunk):
            got += [record.seq for record in chunk.records]
            assert sum(path.stat().st_size for path in logs(tmp_path / "s")) <= 1_300_000
        assert got == list(range(30))
    finally:
        inbox.abort()
        thread.join()


def test_an_abort_lets_a_blocked_put_go(tmp_path):
    """A lane that waits for room in the files leaves when the run is aborted, and its records count as lost."""
    inbox, edge = spilling(tmp_path / "s", capacity=1, size=", 1 MiB")
    raised = threading.Event()

    def fill():
        try:
            while True:
                edge.put(1, numbers(0, 1, bytes(400_000)))
        except RunAborted:
            raised.set()

    thread = threading.Thread(target=fill)
    thread.start()
    while edge.blocked_since is None:
        thread.join(0.01)
    inbox.abort()
    thread.join(20)
    assert raised.is_set()
    assert edge.put_count == edge.lost_count + edge.kept_count


def test_a_run_that_spills_loses_nothing(tmp_path):
    """Arrays that wait for a slow store beside a fast one go to the disk and come back equal and in order."""
    gate, archived, seen = threading.Event(), threading.Event(), []

    def slow(record):
        gate.wait(30)
        seen.append(int(record.data[0]))
        return record

    def count(record):
        if record.seq == 999:
            archived.set()
        return record

    source = ps.source((np.full(1000, n) for n in range(1000)), name="feed")
    edge = ps.edge(capacity=10, when_full=f"spill({tmp_path / 's'})")
    archive = source >> count >> ps.store("memory")
    with ps.Pipeline(archive, source >> edge >> slow >> ps.store("null"), checkpoint_every_s=0.02).start() as run:
        assert archived.wait(30)
        assert logs(tmp_path / "s")
        gate.set()
        report = run.wait(60)
    assert report.ok, report
    assert seen == list(range(1000))
    assert list((tmp_path / "s").iterdir()) == []


def test_an_aborted_run_leaves_its_spill_to_the_next(tmp_path):
    """The report of an aborted run says what stays on the disk, that of the next what came from there; both balance."""
    gate, full = threading.Event(), threading.Event()
    entered = threading.Event()

    def pipeline(first, last, slow):
        source = ps.source(
            ((full.set() if n == last - 1 else None, ps.Record(n, seq=n))[1] for n in range(first, last)), name="feed"
        )
        edge = ps.edge(capacity=10, when_full=f"spill({tmp_path / 's'})")
        return ps.Pipeline(source >> edge >> ps.processor(slow, name="slow") >> ps.store("null"))

    def blocked(record):
        entered.set()
        gate.wait(30)
        return record

    run = pipeline(0, 5000, blocked).start()
    assert full.wait(30)
    assert entered.wait(30)
    while run.stats().edge("feed", "slow").put < 5000:
        run.wait(0.01)
    run.abort()
    gate.set()
    report = run.wait(30)
    assert report.balanced, report
    edge = report.account.edge("feed", "slow")
    assert edge.kept >= 5000 - MOST_AT_ONCE  # the records inside the slow one are lost
    assert f"{edge.kept} records left on the disk" in str(report)
    seen = []
    report = pipeline(5000, 5100, lambda record: seen.append(record.data)).run()
    assert report.ok, report
    assert report.account.edge("feed", "slow").recovered == edge.kept
    assert seen == list(range(5000 - edge.kept, 5100))


def test_two_edges_cannot_share_a_directory(tmp_path):
    """A second edge that spills into the same directory is refused before anything runs, by name."""
    source = ps.source(range(5))
    edge = ps.edge(when_full=f"spill({tmp_path / 's'})")
    flows = [source >> edge >> ps.store("null", name=name) for name in "xy"]
    with pytest.raises(RunError, match="use a different one for each edge"):
        ps.Pipeline(*flows).start()
    assert ps.Pipeline(flows[0]).run().ok
