"""The push source: other threads put, a run reads; bounded, in order, and nothing is lost without being counted."""

from __future__ import annotations

import contextlib
import sys
import threading

import pytest

import penstock as ps
from penstock.builtin.push import PushSource, PutTimeoutError
from penstock.errors import EndOfSource, RunError
from penstock.testing import SourceContract

LONG_S = 30.0


class TestPushContract(SourceContract):
    """Records put before the first read are read like those of any other source."""

    repeats = False

    def make_source(self, tmp_path):
        self.made = PushSource(capacity=50, channel="pushed")
        return self.made

    def feed(self, tmp_path):
        self.made.put(range(self.count))
        self.made.end()


def test_many_put_one_reads():
    """Several threads put more than it holds; each channel arrives completely and in order, and `end` ends the run."""
    push = PushSource(capacity=8)
    store = ps.store("memory")
    run = ps.Pipeline(ps.source(push) >> store, name="pushed").start()

    def put(channel):
        assert push.put([ps.Record(seq, channel=channel, seq=seq) for seq in range(400)], timeout_s=LONG_S) == 400

    threads = [threading.Thread(target=put, args=(f"c{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    push.end()
    report = run.wait(LONG_S)
    assert report is not None
    assert report.ok, report
    assert (report.received, report.stored) == (1600, 1600)


@pytest.mark.parametrize("when_full", ["block", "drop_oldest", "drop_newest"])
def test_many_threads_put_into_a_small_one(when_full):
    """However the threads interleave, each record is read or counted as dropped, in order, and all space is freed."""
    push, puts, each = PushSource(capacity=3, capacity_bytes=10_000, when_full=when_full), 3, 2000
    push.open()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def put(channel):
            push.put([ps.Record(bytes(seq % 7 * 100), channel=channel, seq=seq) for seq in range(each)])

        threads = [threading.Thread(target=put, args=(f"c{number}",)) for number in range(puts)]
        ending = threading.Thread(target=lambda: ([thread.join(LONG_S) for thread in threads], push.end()))
        for thread in [*threads, ending]:
            thread.start()
        read = []
        with contextlib.suppress(EndOfSource):
            while True:
                read += push.read(5, LONG_S)
        ending.join(LONG_S)
    finally:
        sys.setswitchinterval(before)
    for number in range(puts):
        seqs = [record.seq for record in read if record.channel == f"c{number}"]
        assert seqs == sorted(set(seqs))
        assert len(seqs) + push.dropped_upstream().get(f"c{number}", 0) == each
    assert when_full != "block" or not push.dropped_upstream()
    assert push.inlet._put_bytes == push.inlet._taken_bytes


def test_full():
    """If it is full, by records or bytes, `put` waits no longer than its timeout; a single large one is accepted."""
    push = PushSource(capacity=2)
    push.put([0, 1])
    with pytest.raises(PutTimeoutError, match=r"2 records with \d+ bytes wait, of at most 2"):
        push.put([2], timeout_s=0)
    assert [record.data for record in push.read(10, 0)] == [0, 1]
    heavy = PushSource(capacity_bytes=1000)
    assert heavy.put([bytes(5000)], timeout_s=0) == 1
    with pytest.raises(PutTimeoutError):
        heavy.put([b""], timeout_s=0.01)


def test_dropping_is_counted():
    """drop_oldest keeps the newest and drop_newest the oldest; both count, by channel."""
    oldest = PushSource(capacity=2, when_full="drop_oldest", channel="a")
    assert oldest.put(range(5)) == 5
    assert [record.data for record in oldest.read(9, 0)] == [3, 4]
    newest = PushSource(capacity=2, when_full="drop_newest", channel="a")
    assert newest.put(range(5)) == 2
    assert [record.data for record in newest.read(9, 0)] == [0, 1]
    assert oldest.dropped_upstream() == newest.dropped_upstream() == {"a": 3}
    assert oldest.lost_upstream() == newest.lost_upstream() == {}


def test_the_end():
    """After `end` the put records are still read, then the source ends; put raises."""
    push = PushSource()
    push.put(["last"])
    push.end()
    with pytest.raises(RunError, match="the source has ended"):
        push.put(["late"])
    assert [record.data for record in push.read(9, 1.0)] == ["last"]
    with pytest.raises(EndOfSource):
        push.read(9, 1.0)


def test_closing_frees_who_waits_and_counts_what_is_left():
    """A caller that waits for space at close gets an error; unread records count as lost."""
    push = PushSource(capacity=1)
    push.open()
    push.put([0])
    told = []

    def put():
        with pytest.raises(RunError) as caught:
            push.put([1])
        told.append(caught.value)

    putting = threading.Thread(target=put)
    putting.start()
    push.close()
    putting.join(LONG_S)
    assert len(told) == 1
    assert push.lost_upstream() == {"": 1}


def test_in_a_file():
    """A pipeline with a push source can be written and read: with its settings, without its records."""
    push = PushSource(capacity=5, channel="x")
    push.put([1])
    pipeline = ps.Pipeline(ps.source(push) >> ps.store("null"))
    assert "capacity = 5" in pipeline.to_toml()
    assert ps.Pipeline.from_toml(pipeline.to_toml()) == pipeline


def test_plain_data_have_the_name_of_the_node_as_channel():
    """Two push sources are two channels, whether data were put before the pipeline was created or later."""
    push, other = PushSource(), PushSource(channel="right")
    push.put([1, ps.Record(2, channel="own"), 3])
    names = []
    watch = ps.processor(lambda record: names.append((record.channel, record.seq)) or record)
    both = ps.Pipeline(ps.source(push, name="left") >> watch, ps.source(other) >> watch >> ps.store("null"))
    with both.start() as run:
        push.put([4])
        other.put([5])
        push.end()
        other.end()
        run.wait(LONG_S)
    assert sorted(names) == [("left", 0), ("left", 1), ("left", 2), ("own", 0), ("right", 0)]


def test_what_is_dropped_before_the_node_has_a_name_is_counted_under_it():
    """Drops from before the pipeline was created are counted in the channel that the records would have had."""
    push = PushSource(capacity=1, when_full="drop_oldest")
    run = ps.Pipeline(ps.source(push, name="cam") >> ps.store("null")).start()
    push.put(range(1000))
    push.end()
    report = run.wait(LONG_S)
    assert set(report.account.node("cam").channels) == {"cam"}
