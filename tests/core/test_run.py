"""A run: records of sources reach the stores in order, are committed when durable, and are accounted for."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import penstock as ps

from .runs import Numbers, Shelf


@pytest.fixture(autouse=True)
def _no_threads_left(tmp_path, monkeypatch):
    """After every test, no thread of penstock is left; dead letters go to the test's directory."""
    monkeypatch.chdir(tmp_path)
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("penstock")] == []


def test_any_iterable_any_callable_any_order():
    """The items of a generator pass through functions into a store completely and in order."""
    shelf = Shelf()
    report = ps.Pipeline(ps.source(n for n in range(1000)) >> (lambda r: r.data + 1) >> ps.store(shelf)).run()
    assert report.ok, report
    assert [record.seq for record in shelf.log] == list(range(1000))
    assert shelf.data == list(range(1, 1001))
    assert (report.received, report.stored, report.emitted) == (1000, 1000, 1000)


def test_a_processor_gives_none_one_or_several():
    """None discards, a record passes, a list or a generator emits several: the account distinguishes them."""
    shelf = Shelf()

    def split(record):
        if record.data % 3 == 0:
            return None
        return record if record.data % 3 == 1 else [record, record.replace(data=-record.data)]

    def generate(record):
        yield record
        yield record.replace(data=0)

    report = ps.Pipeline(ps.source(range(9)) >> split >> generate >> ps.store(shelf)).run()
    assert report.ok, report
    assert report.discarded == 3
    node = report.account.node("split")
    assert (node.records_in, node.passed, node.extra, node.records_out) == (9, 6, 3, 9)
    assert node.channels == {"range": {"discarded": 3}}
    assert shelf.data == [1, 0, 2, 0, -2, 0, 4, 0, 5, 0, -5, 0, 7, 0, 8, 0, -8, 0]


def test_e5_processors_of_three_arguments():
    """A function of (coords, data, metadata) returns a tuple, a list of them or None."""
    shelf = Shelf()

    def process(coords, data, metadata):
        if data == 1:
            return None
        if data == 2:
            return [(coords, 20, {}), ({"t": 7}, 21, {"a": 1})]
        if data == 3:
            return "rubbish"
        return coords, data, metadata

    report = ps.Pipeline(ps.source([0, 1, 2, 3, 4]) >> process >> ps.store(shelf)).run()
    assert shelf.data == [0, 20, 21, 4]
    assert shelf.log[2].coords == {"t": 7}
    assert report.dead_lettered == 1
    assert not report.ok
    assert report.exit_code == 1


def test_a_slow_viewer_never_brakes_an_archive():
    """Beside a viewer that takes one record and blocks, the archive gets all; the viewer's drops are exact."""
    release, seen = threading.Event(), []
    done = threading.Event()

    def show(record):
        seen.append(record.data)
        release.wait()

    def count(record):
        if record.data == 4999:
            done.set()
        return record

    shelf = Shelf()
    source = ps.source(Numbers(count=5000))
    archive = source >> count >> ps.store(shelf)
    viewer = source >> ps.edge(capacity=1, when_full="drop_oldest") >> ps.processor(show)
    with ps.Pipeline(archive, viewer).start() as run:
        assert done.wait(30)
        release.set()
    report = run.report
    assert report.ok, report
    assert shelf.data == list(range(5000))
    edge = report.account.edge("Numbers", "show")
    assert edge.put == 5000
    assert edge.dropped == 5000 - len(seen)
    assert seen[-1] == 4999


def test_fan_out_shares_arrays_read_only_and_in_place_gets_its_own():
    """After a fan-out arrays are read-only; a component that works in place gets a copy, others the same memory."""
    arrays = [np.zeros(4) for _ in range(3)]
    seen = []

    class Add:
        in_place = True

        def __call__(self, record):
            array = record.data
            array += 1
            return record

    def look(record):
        seen.append(record.data)

    source = ps.source(arrays)
    report = ps.Pipeline(source >> ps.processor(Add()) >> ps.store("memory"), source >> look).run()
    assert report.ok, report
    assert all(
        not array.flags.writeable and np.shares_memory(array, own) for array, own in zip(seen, arrays, strict=True)
    )
    assert all((array == 0).all() for array in arrays)


@pytest.mark.parametrize("ordered", [True, False])
def test_workers_share_the_work(ordered):
    """Several workers return every result once; in the order of the records unless `ordered` is False."""
    barrier = threading.Barrier(2, timeout=20)

    def work(record):
        if record.data < 2:
            barrier.wait()  # passes only if two records are worked at side by side
        return [record, record.replace(data=record.data + 0.5)] if record.data % 7 else None

    shelf = Shelf()
    source = ps.source(Numbers(count=3001, channels=3))
    report = ps.Pipeline(source >> ps.processor(work, workers=2, ordered=ordered) >> ps.store(shelf)).run()
    assert report.ok, report
    expected = [n + half for n in range(3001) if n % 7 for half in (0, 0.5)]
    assert (shelf.data if ordered else sorted(shelf.data)) == expected


def test_workers_between_fans():
    """Workers after a fan-in and before a fan-out keep the order of each channel, and the account adds up."""
    one, two = Shelf(), Shelf()
    sources = [ps.source(Numbers(count=500), name="a"), ps.source(Numbers(count=500), name="b")]
    tagged = [
        source >> ps.processor(lambda r, n=n: r.replace(channel=n)) for n, source in zip("ab", sources, strict=True)
    ]
    flow = tagged >> ps.processor(lambda record: record, workers=3, name="work") >> [ps.store(one), ps.store(two)]
    report = ps.Pipeline(flow).run()
    assert report.ok, report
    for shelf in (one, two):
        for channel in "ab":
            assert [r.data for r in shelf.log if r.channel == channel] == list(range(500))


def test_checkpoints_commit_only_what_is_durable():
    """A source commits a position only after every store has synced all records before it."""
    first, second = Shelf(), Shelf()
    checks = []

    class Watched(Numbers):
        def commit(self, position):
            for shelf in (first, second):
                checks.append(max(shelf.synced, default=0) >= position)
            super().commit(position)

    source = ps.source(Watched(count=20_000))
    a = source >> ps.store(first)
    b = source >> ps.edge(capacity=50) >> ps.store(second)
    report = ps.Pipeline(a, b, checkpoint_every_s=0.01).run()
    assert report.ok, report
    assert report.checkpoints >= 1
    assert checks
    assert all(checks)


def test_at_the_end_everything_is_committed():
    """A run that drains commits the position after the last record, and closes source and store once."""
    numbers, shelf = Numbers(count=777), Shelf()
    ps.Pipeline(ps.source(numbers) >> ps.store(shelf)).run()
    assert numbers.committed[-1] == 777
    assert len(numbers.closed) == 1
    assert len(shelf.closed) == 1


def test_a_checkpoint_waits_for_what_a_processor_holds():
    """Records held by a processor are not committed before its result is durable."""

    class Pairs:
        def __init__(self):
            self.kept = []

        def __call__(self, record):
            self.kept.append(record)
            if len(self.kept) < 2:
                return None
            first, second = self.kept
            self.kept = []
            return second.replace(data=(first.data, second.data))

        def held(self):
            return self.kept

        def flush(self):
            return [self.kept.pop()] if self.kept else []

    shelf, gate = Shelf(), threading.Event()
    numbers = Numbers(count=3, gate=gate)
    reached = threading.Event()

    class Told(Shelf):
        def sync(self):
            super().sync()
            reached.set()

    told = Told()
    source = ps.source(numbers)
    with ps.Pipeline(
        source >> Pairs() >> ps.store(shelf), source >> ps.store(told), checkpoint_every_s=0.01
    ).start() as run:
        assert reached.wait(10)
        assert max(numbers.committed) == 0
        gate.set()
        report = run.wait(20)
    assert report.ok, report
    assert numbers.committed[-1] == 3
    assert shelf.data == [(0, 1), 2]
    assert report.account.node("Pairs").buffered == 2


def test_a_sync_that_fails_commits_nothing_until_it_works():
    """While a store cannot sync, no position is committed; the next successful checkpoint commits."""
    numbers, gate = Numbers(count=10, gate=threading.Event()), threading.Event()

    class Failing(Shelf):
        def sync(self):
            try:
                super().sync()
            finally:
                if self.state["syncs"] >= 4:
                    gate.set()

    shelf = Failing(fail_sync={1: OSError("full"), 2: OSError("full"), 3: OSError("full")})
    once = ps.Retry(times=1)
    with ps.Pipeline(ps.source(numbers) >> ps.store(shelf, retry=once), checkpoint_every_s=0.01).start() as run:
        assert gate.wait(20)
        numbers.gate.set()
        report = run.wait(20)
    assert numbers.committed[-1] == 10
    assert any("sync() failed" in error for error in report.errors)


def test_abort_counts_what_is_lost():
    """`stop(drain=False)` ends at once; records in flight are counted as lost, and the account still adds up."""
    hold, entered = threading.Event(), threading.Event()

    def wait(records):
        entered.set()
        hold.wait()

    shelf = Shelf(before_write=wait)
    run = ps.Pipeline(ps.source(Numbers(count=10**9)) >> ps.edge(capacity=64) >> ps.store(shelf)).start()
    assert entered.wait(10)
    threading.Thread(target=lambda: (run._wake.wait(0.01), hold.set())).start()
    report = run.stop(drain=False)
    assert report.aborted
    assert report.lost > 0
    assert report.balanced, report
    assert not report.ok


def test_a_component_that_blocks_for_ever_is_named_by_an_abort(monkeypatch):
    """A processor that never returns cannot delay an abort: the report names it."""
    from penstock.run import run as run_module

    monkeypatch.setattr(run_module, "ABORT_GRACE_S", 0.2)
    entered, release = threading.Event(), threading.Event()

    def block(record):
        entered.set()
        release.wait()

    run = ps.Pipeline(ps.source(Numbers(count=10**9)) >> block).start()
    assert entered.wait(10)
    report = run.stop(drain=False)
    assert any("node 'block' has been blocking" in error for error in report.errors)
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("penstock"):
            thread.join(10)


def test_a_with_block_drains():
    """Leaving `with` stops the sources, and everything that was read is stored."""
    numbers, shelf = Numbers(count=10**9), Shelf()
    reached = threading.Event()
    shelf.before_write = lambda records: reached.set() if records[0].data > 1000 else None
    with ps.Pipeline(ps.source(numbers) >> ps.store(shelf)).start() as run:
        assert reached.wait(20)
    assert run.report.ok, run.report
    assert run.report.stored == run.report.received == len(shelf.log) == numbers.committed[-1]


def test_pause_and_resume():
    """A paused source is not read until it is resumed."""
    read = threading.Event()

    class Ticks(Numbers):
        def read(self, max_records, timeout_s):
            read.set()
            return super().read(1, timeout_s)

    with ps.Pipeline(ps.source(Ticks(count=10**9), name="n") >> ps.store("null")).start() as run:
        assert read.wait(10)
        run.pause("n")
        read.clear()
        read.wait(0.3)  # a read that was under way may still end
        read.clear()
        assert not read.wait(0.3)
        run.resume("n")
        assert read.wait(10)
    assert run.report.ok


def test_a_store_is_given_lists():
    """A lane that ends in a store takes more and more records at once, like any other."""
    sizes = []
    shelf = Shelf(before_write=lambda records: sizes.append(len(records)))
    assert ps.Pipeline(ps.source(range(5000)) >> ps.store(shelf)).run().ok
    assert max(sizes) >= 64
    assert len(sizes) < 500


def test_slow_components_are_given_few_records_at_once():
    """A slow processor works on short lists, so that results do not wait for a thousand others."""
    sizes, pause = [], threading.Event()

    class Slow:
        def __call__(self, record):
            pause.wait(0.02)
            return record

    shelf = Shelf(before_write=lambda records: sizes.append(len(records)))
    report = ps.Pipeline(ps.source(list(range(60))) >> ps.processor(Slow()) >> ps.store(shelf)).run()
    assert report.ok, report
    assert shelf.data == list(range(60))
    assert max(sizes) <= 8
