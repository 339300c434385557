"""Records of a source are taken as soon as they are available, and checked as far as necessary."""

from __future__ import annotations

import threading
import time

import pytest

import penstock as ps
from penstock.builtin.iterable import IterableSource
from penstock.fields import ExactRecords


def spun(seconds):
    """Use this much time without sleeping."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_an_iterator_that_takes_its_time_has_each_item_handed_over_at_once():
    """An item that its generator took more than 0.1 ms for does not wait for others."""

    def slow():
        for number in range(20):
            spun(0.0003)
            yield number

    source = IterableSource(items=slow())
    source.open()
    assert [len(source.read(64, 1.0)) for _ in range(20)] == [1] * 20
    source.close()


def test_a_fast_iterator_gives_long_lists():
    """Items that arrive together are returned together."""
    source = IterableSource(items=(number for number in range(100_000)))
    source.open()
    assert max(len(source.read(64, 1.0)) for _ in range(1000)) == 64
    source.close()


def test_what_is_copied_is_not_taken_for_slow():
    """The copy of a large array does not count as the iterator's time: lists of arrays are as long as others."""
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.ones(200_000) for _ in range(8)]
    source = IterableSource(items=(arrays[number % 8] for number in range(4000)), reuses_buffers=True)
    source.open()
    assert max(len(source.read(4, 1.0)) for _ in range(200)) > 1
    source.close()


def test_a_source_that_promises_exact_fields_may_still_have_an_odd_channel(tmp_path):
    """If a trusted source has a channel that is not text, its records fail one by one."""

    class Trusted:
        exact_fields = True
        gives = "any"

        def open(self):
            self.left = [ps.Record(b"a", channel=7)]

        def read(self, max_records, timeout_s):
            if not self.left:
                raise ps.errors.EndOfSource("all are read")
            return ExactRecords([self.left.pop()])

        def close(self):
            pass

    flow = ps.source(Trusted(), name="files") >> ps.store("null")
    report = ps.Pipeline(flow, dead_letters=tmp_path / "dead").run()
    assert (report.received, report.stored, report.dead_lettered) == (1, 0, 1)


def test_what_an_iterator_gave_before_it_blocked_for_ever_is_counted():
    """Items that were taken from an iterator which never returns are lost upstream after an abort, not forgotten."""
    blocks, ends = threading.Event(), threading.Event()

    def camera():
        yield from range(5)
        blocks.set()
        ends.wait()

    kept = ps.store("null")
    run = ps.Pipeline(ps.source(camera(), name="camera") >> kept).start()
    assert blocks.wait(30.0)
    report = run.stop(drain=False)
    ends.set()
    node = report.account.node("camera")
    assert node.received + node.lost_upstream == 5
    assert not report.ok
