"""Faults come when they are ordered, fakes do what they are told, and whatever is left behind is found."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import textwrap
import threading
import time

import hypothesis
import numpy
import pytest

import penstock as ps
from penstock.builtin.iterable import IterableSource
from penstock.builtin.memory import MemoryStore
from penstock.errors import EndOfSource, SourceError, StoreError
from penstock.record import Record
from penstock.testing import (
    FakeSource,
    FaultySource,
    FaultyStore,
    JumpingClock,
    SlowStore,
    SourceContract,
    leaves_nothing,  # noqa: F401 - a fixture
    no_leaks,
    raise_nth,
    strategies,
)


def test_leaks_are_found(tmp_path):
    """A file and a thread that are left behind are named."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="left behind")
    left = []

    def leave_behind():
        with no_leaks(wait_s=0):
            left.append(os.open(tmp_path / "left.txt", os.O_CREAT | os.O_WRONLY))
            thread.start()

    with pytest.raises(AssertionError, match=r"descriptor .*left\.txt; thread 'left behind' still runs"):
        leave_behind()
    done.set()
    thread.join()
    os.close(left[0])


@pytest.mark.parametrize(
    ("threads", "stays"),
    [("pool_*", True), (("other", "pool_?"), True), ("pool", False), ((), False), ("POOL_*", False), ("", False)],
)
def test_threads_of_a_pool_may_stay_if_they_are_declared(threads, stays):
    """A thread whose name matches a glob is not waited for and not named; any other is, with the remedy."""
    done = threading.Event()
    pooled = threading.Thread(target=done.wait, name="pool_0")
    check = no_leaks(wait_s=60 if stays else 0, threads=threads)
    began = time.monotonic()
    try:
        if stays:
            with check:
                pooled.start()
            assert time.monotonic() - began < 30
        else:
            with pytest.raises(AssertionError, match=r"thread 'pool_0' still runs; name it in `threads`"), check:
                pooled.start()
    finally:
        done.set()
        pooled.join()


def test_a_contract_class_declares_threads(tmp_path):
    """`threads` of a contract class holds for each of its tests; without it, a pool that stays fails them."""
    source = """
        import threading
        from penstock.testing import ProcessorContract
        from penstock.record import Record

        done, pool = threading.Event(), []

        def doubled(record):
            if not pool:
                pool.append(threading.Thread(target=done.wait, name="pool_0", daemon=True))
                pool[0].start()
            return record

        class Case(ProcessorContract):
            def make_processor(self):
                return doubled

            def make_records(self):
                return [Record(b"a", channel="a", seq=number) for number in range(3)]

        class TestDeclared(Case):
            threads = ("pool_*",)

        class TestUndeclared(Case):
            def make_processor(self):
                pool.clear()
                return doubled
    """
    (tmp_path / "test_pool.py").write_text(textwrap.dedent(source), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-k", "test_gives_records", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert re.search(r"2 passed, .*\b1 error\b", done.stdout), done.stdout
    assert "name it in `threads` if a library's pool keeps it by design" in done.stdout


def test_faults_come_when_ordered():
    """The n-th call fails, the others go through unchanged."""
    store = FaultyStore(store=MemoryStore(), fail_on={2}, fail_sync_on={1}, refuse=lambda record: record.seq == 5)
    records = [Record(numpy.zeros(1), seq=number) for number in range(6)]
    store.open()
    store.write(records[:1])
    with pytest.raises(StoreError, match="No space left"):
        store.write(records[1:2])
    with pytest.raises(StoreError) as caught:
        store.write(records[1:])
    assert [record.seq for record, _ in caught.value.failed] == [5]
    assert len(store.store) == 5
    with pytest.raises(StoreError):
        store.sync()
    store.sync()
    source = FaultySource(source=IterableSource(items=range(10)), fail_on={2})
    source.open()
    assert len(source.read(3, 0)) == 3
    with pytest.raises(SourceError):
        source.read(3, 0)
    assert source.read(1, 0)[0].seq == 3
    calls = raise_nth(len, 2)
    assert calls("ab") == 2
    with pytest.raises(ValueError):
        calls("ab")
    assert calls("ab") == 2


def test_a_slow_store_waits_for_the_test():
    """A write waits until it is allowed, and says that it does."""
    store = SlowStore(store=MemoryStore())
    thread = threading.Thread(target=store.write, args=([Record(numpy.zeros(1))],))
    thread.start()
    assert store.entered.wait(10)
    assert len(store.store) == 0
    store.allow(1)
    thread.join(10)
    assert len(store.store) == 1


def test_a_clock_that_jumps():
    """Time moves only when told to, both clocks alike."""
    clock = JumpingClock()
    start = clock.time_ns()
    clock.sleep(1.5)
    clock.jump(-0.5)
    assert clock() == 1.0
    assert clock.time_ns() - start == 1_000_000_000


RECORDS = tuple(Record(number, channel="ab"[number % 2], seq=number // 2) for number in range(SourceContract.count))


class TestFakeSource(SourceContract):
    """The fake keeps every promise of a source."""

    picklable = False  # it keeps what is shared with the test
    remembers_commit = True

    @pytest.fixture(autouse=True)
    def _commits(self):
        self.commits = []

    def make_source(self, tmp_path):
        return FakeSource(records=RECORDS, commits=getattr(self, "commits", []))


def test_a_fake_source_tells_what_was_committed():
    """After a run, the test sees the positions that were committed, the last of which is the end."""
    source = FakeSource(records=[Record(number, seq=number) for number in range(20)])
    assert ps.Pipeline(ps.source(source) >> ps.store(MemoryStore())).run().ok
    assert source.commits[-1] == 20


def test_a_fake_source_waits_for_more():
    """With `more`, it gives nothing at its end until more is put or it is told to end."""
    source = FakeSource(records=[Record(0)], more=True)
    source.open()
    assert len(source.read(10, 0)) == 1
    assert not source.read(10, 0)
    source.put(Record(1, seq=1))
    assert [record.data for record in source.read(10, 10)] == [1]
    source.end()
    with pytest.raises(EndOfSource):
        source.read(10, 10)


@hypothesis.settings(max_examples=10, deadline=None, database=None)
@hypothesis.given(strategies.fault_plans(calls=6))
def test_counters_add_up_whatever_fails(plan):
    """A plan says which calls fail: each record is stored, or skipped because of it, and the account balances."""
    store = FaultyStore(store=MemoryStore(), fail_on=plan)
    node = ps.store(store, retry=ps.Retry(times=1), on_error="skip")
    source = FakeSource(records=[Record(number, seq=number) for number in range(10)])
    report = ps.Pipeline(ps.source(source) >> node).run()
    assert report.balanced, str(report)
    assert (report.stored, report.skipped) == (len(store.store), 10 - len(store.store))


LEAKS = """
import threading
import pytest
from penstock.builtin.memory import MemoryStore
from penstock.testing import StoreContract, leaves_nothing, no_leaks

class Leaky(MemoryStore):
    def open(self):
        threading.Thread(target=threading.Event().wait, name="left behind", daemon=True).start()

class TestLeaky(StoreContract):
    outlives = False
    def make_store(self, tmp_path):
        return Leaky()

@pytest.mark.usefixtures("leaves_nothing")
def test_own():
    Leaky().open()
"""


def test_a_contract_and_the_fixture_find_what_is_left_behind(tmp_path):
    """Run by pytest, each test of a contract, and one that uses the fixture, fails if it leaves a thread behind."""
    (tmp_path / "test_leaky.py").write_text(LEAKS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "closing_twice or test_own"]
    done = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.count("left behind: thread 'left behind' still runs") >= 2, done.stdout + done.stderr
    assert "2 errors" in done.stdout


@pytest.mark.usefixtures("leaves_nothing")
def test_the_fixture_is_content_with_nothing():
    """A test that leaves nothing behind passes with the fixture."""


def test_what_is_about_to_be_closed_is_waited_for(tmp_path):
    """A file that a thread of a library closes a moment later is not a leak."""
    opened = queue.Queue()

    def close_late():
        file = opened.get()
        threading.Event().wait(0.05)
        file.close()

    closer = threading.Thread(target=close_late)
    closer.start()
    with no_leaks():
        opened.put((tmp_path / "file").open("w"))
    closer.join()
