"""A run: errors of components cost their own records; what is retried, reopened or given up is accounted for."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import penstock as ps
from penstock.dead_letters import read_dead_letters
from penstock.errors import RunError, SourceError

from .runs import QUICK, Numbers, Shelf


@pytest.fixture(autouse=True)
def _no_threads_left(tmp_path, monkeypatch):
    """After every test, no thread of penstock is left; dead letters go to the test's directory."""
    monkeypatch.chdir(tmp_path)
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("penstock")] == []


def test_one_bad_record_costs_only_itself():
    """If a processor raises, exits or fails in a generator, that record is dead-lettered, with the traceback."""
    shelf = Shelf()

    def process(record):
        if record.data == 3:
            raise KeyError("three")
        if record.data == 5:
            sys.exit(2)
        return record

    def generate(record):
        yield record
        if record.data == 7:
            raise ValueError("seven")

    report = ps.Pipeline(ps.source(range(10)) >> process >> generate >> ps.store(shelf)).run()
    assert shelf.data == [0, 1, 2, 4, 6, 8, 9]
    assert report.dead_lettered == 3
    assert report.balanced, report
    letters = list(read_dead_letters(Path(report.dead_letters)))
    assert [letter.parent.data for letter in letters] == [3, 5, 7]
    assert letters[0].metadata["node"] == "process"
    assert letters[0].metadata["error"] == "builtins.KeyError"
    assert 'raise KeyError("three")' in letters[0].metadata["traceback"]
    assert letters[0].metadata["tries"] == 1


def test_on_error_skip_and_stop():
    """`skip` counts and continues; `stop` ends the run, commits nothing after the failure, and reports it."""

    def process(record):
        if record.data == 30:
            raise ValueError("thirty")
        return record

    report = ps.Pipeline(ps.source(range(50)) >> ps.processor(process, on_error="skip") >> ps.store("null")).run()
    assert (report.skipped, report.stored, report.dead_letters) == (1, 49, "")
    assert not report.ok
    numbers = Numbers(count=10**9)
    report = ps.Pipeline(ps.source(numbers) >> ps.processor(process, on_error="stop") >> ps.store("null")).run()
    assert report.account.node("process").failed == 1
    assert report.lost == 1
    assert report.balanced, report
    assert "record 30 of channel 'c0': thirty" in report.errors[0]
    assert all(position <= 30 for position in numbers.committed)


def test_retry_makes_a_call_again():
    """A processor that fails twice and then works loses nothing, and the retries are counted."""
    calls = []

    def process(record):
        calls.append(record.data)
        if calls.count(2) < 3 and record.data == 2:
            raise ConnectionError("not yet")
        return record

    shelf = Shelf()
    report = ps.Pipeline(ps.source(range(4)) >> ps.processor(process, retry=QUICK) >> ps.store(shelf)).run()
    assert report.ok, report
    assert shelf.data == [0, 1, 2, 3]
    assert calls == [0, 1, 2, 2, 2, 3]
    assert report.account.node("process").retries == 2


def test_retry_only_on_the_errors_named():
    """An error that is not in `on` is not retried."""
    calls = []

    def process(record):
        calls.append(record.data)
        raise KeyError("no")

    retry = ps.Retry(times=5, wait_initial_s=0.001, on=("OSError",))
    report = ps.Pipeline(ps.source([1]) >> ps.processor(process, retry=retry)).run()
    assert calls == [1]
    assert report.dead_lettered == 1


@pytest.mark.parametrize("name_failed", [True, False])
def test_a_store_that_fails_twice_keeps_the_order(name_failed):
    """A store that raises twice and then works has everything, in order, once."""
    shelf = Shelf(fail_calls={2: OSError("once"), 3: OSError("twice")}, name_failed=name_failed)
    pipeline = ps.Pipeline(ps.source(range(500)) >> ps.edge(capacity=10) >> ps.store(shelf, retry=QUICK))
    report = pipeline.run()
    assert report.ok, report
    assert shelf.data == list(range(500))
    assert report.account.node("Shelf").retries == 2


@pytest.mark.parametrize("name_failed", [True, False])
def test_a_bad_record_does_not_take_its_neighbours_with_it(name_failed):
    """Records that a store rejects permanently are dead-lettered, each with its own error; the others are stored."""
    shelf = Shelf(poison=frozenset({3, 77}), name_failed=name_failed)
    report = ps.Pipeline(ps.source(range(100)) >> ps.store(shelf, retry=QUICK)).run()
    assert sorted(shelf.data) == [n for n in range(100) if n not in (3, 77)]
    assert report.dead_lettered == 2
    assert report.balanced, report
    messages = [letter.metadata["message"] for letter in read_dead_letters(Path(report.dead_letters))]
    assert all(("poison" in message) == name_failed for message in messages)


def test_a_store_that_always_fails_ends_in_dead_letters():
    """If a store never works, nothing is lost silently: all records are dead-lettered, and the run reports it."""
    shelf = Shelf(fail_calls={n: OSError("full") for n in range(10_000)})
    report = ps.Pipeline(ps.source(range(20)) >> ps.store(shelf, retry=QUICK)).run()
    assert report.stored == 0
    assert report.dead_lettered == 20
    assert report.exit_code == 1
    assert report.balanced, report


def test_a_source_that_fails_is_opened_again_with_a_discontinuity():
    """A source whose read raises is closed and reopened; the next record is marked."""

    class Flaky(Numbers):
        def read(self, max_records, timeout_s):
            if self._next == 5 and not self.closed:
                raise ConnectionError("gone")
            return super().read(min(5 - self._next if self._next < 5 else 5, max_records), timeout_s)

        def open(self):
            self._next = 5 if self.closed else 0

    shelf = Shelf()
    report = ps.Pipeline(ps.source(Flaky(count=12), retry=QUICK) >> ps.store(shelf)).run()
    assert report.ok, report
    assert shelf.data == list(range(12))
    assert [record.data for record in shelf.log if record.discontinuity] == [5]


def test_a_source_that_fails_for_good_ends_alone():
    """If a source fails for good, its neighbours continue; the report names it and is not ok."""

    class Broken(Numbers):
        def read(self, max_records, timeout_s):
            raise SourceError("the cable is out")

    shelf = Shelf()
    flow = [ps.source(Broken(), retry=QUICK), ps.source(Numbers(count=300))] >> ps.store(shelf)
    report = ps.Pipeline(flow).run()
    assert shelf.data == list(range(300))
    assert not report.ok
    assert "node 'Broken'" in report.errors[0]
    assert "the cable is out" in report.errors[0]


def test_an_iterable_that_raises_is_an_error_not_an_end():
    """A generator that raises ends the source with its error; its earlier records are stored."""

    def numbers():
        yield from range(10)
        raise RuntimeError("out of numbers")

    shelf = Shelf()
    report = ps.Pipeline(ps.source(numbers()) >> ps.store(shelf)).run()
    assert shelf.data == list(range(10))
    assert "out of numbers" in report.errors[0]


def test_what_cannot_be_opened_is_named_and_everything_else_closed():
    """An `open` that raises is a RunError with the node; all others are closed, nothing was read."""

    class Locked(Shelf):
        def open(self):
            raise PermissionError("the directory is locked")

    numbers, shelf = Numbers(), Shelf()
    source = ps.source(numbers)
    with pytest.raises(RunError, match=r"node 'Locked' .*cannot open: the directory is locked"):
        ps.Pipeline(source >> ps.store(shelf), source >> ps.store(Locked())).run()
    assert len(shelf.closed) == 1
    assert shelf.log == []


def test_what_a_retry_wrote_is_not_written_again():
    """If a second try writes a part of the records that the first did not, the third gets only the rest."""
    from penstock.errors import StoreError

    class Halving(Shelf):
        def write(self, records):
            self.state["writes"] += 1
            if self.state["writes"] < 4 and len(records) > 1:
                half = len(records) // 2
                self.log.extend(records[:half])
                raise StoreError("half", failed=[(record, OSError("later")) for record in records[half:]])
            self.log.extend(records)

    shelf = Halving()
    retry = ps.Retry(times=9, wait_initial_s=0.001, wait_max_s=0.001, jitter_s=0.001)
    records = [ps.Record(n, seq=n) for n in range(400)]
    report = ps.Pipeline(ps.source(records) >> ps.store(shelf, retry=retry)).run()
    assert report.ok, report
    assert shelf.data == list(range(400))


def test_a_retry_says_nothing_on_stderr_where_nobody_has_configured_a_log():
    """Retries are counted in the report; no library writes to the user's terminal."""
    code = """
import penstock as ps
calls = []
def process(record):
    calls.append(record)
    if len(calls) == 1:
        raise OSError("not yet")
    return record
retry = ps.Retry(times=2, wait_initial_s=0.001)
report = ps.Pipeline(ps.source([1]) >> ps.processor(process, retry=retry) >> ps.store("null")).run()
assert report.ok and report.account.node("process").retries == 1
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
