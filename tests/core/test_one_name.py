"""Two records of the same name are detected wherever they meet."""

from __future__ import annotations

import pytest

import penstock as ps
from penstock.builtin.memory import MemoryStore


def numbers(name, *, channel="a", first=0, step=1):
    """Return a source of ten records of a channel."""
    records = [ps.Record(n, channel=channel, seq=n) for n in range(first, first + 10 * step, step)]
    return ps.source(records, name=name)


def merged(store, *flows, workers=1):
    """Send sources into one store."""
    kept = ps.store(store, name="kept", workers=workers)
    return ps.Pipeline(*(flow >> kept for flow in flows)).run()


@pytest.mark.parametrize("store", ["null", "memory"])
def test_two_sources_of_one_channel_and_the_same_numbers_are_remarked(store):
    """Records of the same name from two sources are stored and remarked, with both nodes, channel and number."""
    report = merged(store, numbers("left"), numbers("right", first=5))
    assert report.received == 20
    (remark,) = [each for each in report.remarks if "told apart" in each]
    for part in ("'kept'", "'left'", "'right'", "'a'", "seq 5", "use a different channel"):
        assert part in remark


@pytest.mark.parametrize("when_exists", ["skip", "replace"])
@pytest.mark.parametrize("between", [False, True], ids=["directly", "behind a processor"])
def test_where_a_store_keeps_one_of_them_it_is_an_error(when_exists, between):
    """A store that would silently keep one of two records of one name makes the report not ok."""
    store = MemoryStore(when_exists=when_exists)
    if between:
        both = ps.processor(lambda record: record, name="both")
        flows = (numbers("left") >> both >> ps.store(store, name="kept"), numbers("right") >> both)
        report = ps.Pipeline(*flows).run()
    else:
        report = merged(store, numbers("left"), numbers("right"))
    assert len(store) == 10
    assert not report.ok
    assert any("told apart" in error and "'kept'" in error for error in report.errors), report


@pytest.mark.parametrize(
    "right",
    [{"channel": "b"}, {"first": 20}, {"first": 1, "step": 2}],
    ids=["another channel", "other numbers", "numbers between"],
)
def test_names_that_differ_are_not_remarked(right):
    """Sources whose records differ in channel or number cause no remark, also if their numbers alternate."""
    store = MemoryStore(when_exists="skip")
    report = merged(store, numbers("left", step=2), numbers("right", **right))
    assert report.ok
    assert not report.remarks
    assert len(store) == 20


def test_two_ways_of_one_record_into_a_store_that_replaces_are_an_error():
    """The results of two processors for one record have its name: a replacing store would lose one."""
    frames = numbers("frames")
    store = MemoryStore(when_exists="replace")
    kept = ps.store(store, name="kept")
    ways = [frames >> ps.processor(lambda record, n=n: record.replace(data=n), name=f"way {n}") >> kept for n in (1, 2)]
    report = ps.Pipeline(*ways).run()
    assert not report.ok
    named = [frames >> ps.processor(lambda r, n=n: r.replace(channel=f"{n}"), name=f"way {n}") >> kept for n in (1, 2)]
    assert ps.Pipeline(*named).run().ok


def test_a_source_that_gives_again_is_no_second_one():
    """A record that a reopened source repeats is not attributed to another source."""

    class Loose:
        opened = 0

        def open(self):
            self.opened += 1
            self.next = 0

        def read(self, max_records, timeout_s):
            if self.next == 5 and self.opened == 1:
                raise OSError("the cable is loose")
            if self.next == 10:
                raise ps.errors.EndOfSource("end")
            self.next += 1
            return [ps.Record(self.next, channel="loose", seq=self.next)]

        def position(self):
            return self.next

        def commit(self, position):
            pass

        def seek(self, position):
            self.next = 0

        def close(self):
            pass

    retry = ps.Retry(times=3, wait_initial_s=0.001, wait_max_s=0.001, jitter_s=0.001)
    report = merged("null", ps.source(Loose(), name="loose", retry=retry), numbers("other"))
    assert not [remark for remark in report.remarks if "told apart" in remark]


def test_names_that_a_processor_chooses_are_unique_among_its_workers():
    """Workers of one processor that choose the same name do not overwrite each other's records, and it is reported."""
    store = MemoryStore(when_exists="replace")

    def halved(record):
        return record.replace(channel="halves", seq=record.seq // 2)

    flow = ps.source(range(300)) >> ps.processor(halved, name="halved", workers=3) >> ps.store(store)
    report = ps.Pipeline(flow).run()
    assert len(store) == report.stored == 300
    assert not report.ok
    assert any("'halved'" in error and "same name" in error for error in report.errors)
