"""An outage of a store is distinguished from bad records: it costs no wait per record, and recovery is automatic."""

from __future__ import annotations

import threading
import time

import pytest

import penstock as ps
from penstock.errors import StoreError

from .runs import QUICK, Shelf


class Dead:
    """A store whose calls fail, after `slow_s` seconds, as long as `down` is set; `calls` counts them."""

    def __init__(self, slow_s=0.0, error=None):
        self.down = threading.Event()
        self.down.set()
        self.slow_s = slow_s
        self.error = error or ConnectionError("the server is gone")
        self.calls = 0
        self.kept = []
        self.seen = threading.Event()

    def open(self):
        pass

    def write(self, records):
        if self.down.is_set():
            self.calls += 1
            if self.calls > 12:
                self.seen.set()
            time.sleep(self.slow_s)
            raise self.error
        self.kept += [record.data for record in records]

    def sync(self):
        if self.down.is_set():
            raise self.error

    def close(self):
        pass


def run(store, items, tmp_path, **options):
    flow = ps.source(items, name="numbers") >> ps.edge(capacity=10_000) >> ps.store(store, name="archive", **options)
    return ps.Pipeline(flow, dead_letters=tmp_path / "dead").run()


def test_a_thousand_records_into_a_dead_store(tmp_path):
    """With the default retry the run ends in a few seconds: all records are dead letters; the account adds up."""
    began = time.monotonic()
    report = run(Dead(), range(1000), tmp_path)
    assert time.monotonic() - began < 10
    assert (report.received, report.dead_lettered, report.stored) == (1000, 1000, 0)
    assert report.balanced


def test_one_record_after_the_other(tmp_path):
    """Single records do not cost the waits of `retry` each, either."""

    def slowly():
        for number in range(60):
            time.sleep(0.006)  # longer than an iterable's items are collected
            yield number

    began = time.monotonic()
    report = run(Dead(), slowly(), tmp_path)
    assert time.monotonic() - began < 8
    assert report.dead_lettered == 60


def test_calls_that_fail_slowly_are_few(tmp_path):
    """A store that fails only after a while is probed occasionally, and not called for each record."""
    store = Dead(slow_s=0.1)
    report = run(store, range(1000), tmp_path, retry=QUICK)
    assert store.calls < 20
    assert report.dead_lettered == 1000
    letters = (tmp_path / "dead").rglob("records.log")
    from penstock.recordlog import read_log

    messages = [letter.metadata["message"] for path in letters for _, letter in read_log(path)]
    assert any("so it was not called for this record; its last error: ConnectionError" in each for each in messages)


def test_it_recovers_by_itself(tmp_path):
    """When a store works again, later records are stored, without a restart."""
    store = Dead(slow_s=0.06)
    sent = []

    def numbers():
        while len(sent) < 20 or (not store.kept and len(sent) < 3000):
            time.sleep(0.006)
            sent.append(len(sent))
            if store.seen.is_set():
                store.down.clear()
            yield sent[-1]

    report = run(store, numbers(), tmp_path, retry=QUICK)
    assert report.stored == len(store.kept) > 0
    assert report.stored + report.dead_lettered == report.received == len(sent)


def test_bad_records_cost_only_themselves(tmp_path):
    """Good records among many bad ones, in lists or singly, are stored, whether or not the store names the bad ones."""
    bad = frozenset(number for number in range(300) if number % 5)
    for name_failed in (True, False):
        shelf = Shelf(poison=bad, name_failed=name_failed)
        kept = shelf.log
        report = run(shelf, range(300), tmp_path / str(name_failed), retry=QUICK)
        assert report.stored == 60
        assert report.dead_lettered == 240
        assert [record.data for record in kept] == list(range(0, 300, 5))


def test_records_wait_without_an_end_of_tries(tmp_path):
    """With `Retry(times=None)` records wait until the store works again, and none is lost."""
    store = Dead(error=StoreError("full"))

    def numbers():
        yield from range(50)
        store.seen.wait(20)
        store.down.clear()

    endless = ps.Retry(times=None, wait_initial_s=0.001, wait_max_s=0.01)
    report = run(store, numbers(), tmp_path, retry=endless)
    assert report.ok, report
    assert store.kept == list(range(50))


@pytest.mark.parametrize("end", ["source", "processor", "store"])
def test_an_abort_ends_the_wait_of_a_retry(end, tmp_path):
    """An aborted run does not wait for a retry due in an hour, and counts the record."""
    failed = threading.Event()

    class Failing:
        def open(self):
            pass

        def read(self, max_records, timeout_s):
            return self(None)

        def write(self, records):
            self(records)

        def sync(self):
            pass

        def close(self):
            pass

        def __call__(self, data):
            failed.set()
            raise ConnectionError("the server is gone")

    def retried(kind, otherwise):
        return kind(Failing(), retry=patient) if kind.__name__ == end else otherwise

    patient = ps.Retry(times=None, wait_initial_s=3600, wait_max_s=3600)
    flow = (
        retried(ps.source, ps.source([1], name="numbers"))
        >> retried(ps.processor, ps.processor("sample", every=1))
        >> retried(ps.store, ps.store("null"))
    )
    with ps.Pipeline(flow, dead_letters=tmp_path / "dead").start() as run:
        assert failed.wait(20)
        run.abort()
        report = run.wait(60)
    assert report is not None
    assert report.aborted
    assert report.balanced
