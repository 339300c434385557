"""What blocks is named, and blocks nobody else."""

from __future__ import annotations

import itertools
import logging
import threading

import numpy as np
import pytest

import penstock as ps
from penstock.errors import EndOfSource
from penstock.run import run as run_module
from penstock.run.edges.edge import LiveEdge
from penstock.run.edges.inbox import Inbox
from penstock.run.plan.planning import Plan
from penstock.run.watchdog import Watch
from penstock.testing.leaks import no_leaks


@pytest.fixture(autouse=True)
def _clean(tmp_path, monkeypatch):
    """No thread and no file stays open."""
    monkeypatch.chdir(tmp_path)
    with no_leaks():
        yield


@pytest.fixture
def on_log():
    """A function that returns an event, which is set when penstock.run logs something that contains this text."""
    handlers = []

    def wait_for(text):
        event = threading.Event()

        class Told(logging.Handler):
            def emit(self, record):
                if text in record.getMessage():
                    event.set()

        handlers.append(Told())
        logging.getLogger("penstock.run").addHandler(handlers[-1])
        return event

    yield wait_for
    for handler in handlers:
        logging.getLogger("penstock.run").removeHandler(handler)


def test_a_processor_that_blocks_for_ever_is_named_and_an_abort_ends(monkeypatch, on_log):
    """The watchdog names it and the edge before it; an abort ends the run all the same and names it once more."""
    monkeypatch.setattr(run_module, "WATCH_EVERY_S", 0.02)
    monkeypatch.setattr(run_module, "ABORT_GRACE_S", 0.2)
    for_ever = threading.Event()
    named, edge_named = on_log("block: nothing for"), on_log("numbers >> block: nothing for")

    def block(record):
        for_ever.wait()
        return record

    joint = ps.edge(capacity=5, expect_every_s=0.1)
    blocking = ps.processor(block, name="block", expect_every_s=0.1)
    run = ps.Pipeline(ps.source(range(10**6), name="numbers") >> joint >> blocking >> ps.store("null")).start()
    try:
        assert named.wait(20)
        assert edge_named.wait(20)
        edge = run.stats().edge("numbers", "block")
        assert (edge.in_flight, edge.channels) == (5, {"numbers": {"in_flight": 5}})
        report = run.stop(drain=False)
    finally:
        for_ever.set()
    assert report.aborted
    assert report.balanced, report
    assert any("node 'block' has been blocking for" in problem for problem in report.problems)
    assert report.exit_code == 1


def test_a_slow_viewer_beside_an_archive_of_frames():
    """The archive gets every frame, the same memory as the viewer; what the viewer missed is exact, and marked."""
    frames = [np.full((480, 640), n % 256, "uint8") for n in range(500)]
    shown, archived, go_on = [], [], threading.Event()
    all_archived, entered = threading.Event(), threading.Event()

    def keep(record):
        if record.seq == 400:  # the viewer has one by now, and looks at it
            assert entered.wait(30)
        archived.append(record)
        if len(archived) == len(frames):
            all_archived.set()
        return record

    def show(record):
        shown.append(record)
        entered.set()
        go_on.wait(30)

    source = ps.source(frames, name="camera")
    viewer = source >> ps.edge(capacity=2, when_full="drop_oldest") >> ps.processor(show, name="viewer")
    with ps.Pipeline(source >> keep >> ps.store("null", name="archive"), viewer).start() as run:
        assert all_archived.wait(60)
        go_on.set()
        report = run.wait(30)
    assert report.ok, report
    assert [record.seq for record in archived] == list(range(500))
    assert all(np.shares_memory(record.data, frame) for record, frame in zip(archived, frames, strict=True))
    edge = report.account.edge("camera", "viewer")
    assert (edge.put, edge.taken, edge.dropped) == (500, len(shown), 500 - len(shown))
    assert edge.channels == {"camera": {"dropped": 500 - len(shown)}}
    seqs = [record.seq for record in shown]
    assert seqs == sorted(set(seqs))
    assert seqs[-2:] == [498, 499]
    for first, second in itertools.pairwise(shown):
        assert second.discontinuity == (second.seq != first.seq + 1)


def test_a_silent_source_is_told_and_the_run_goes_on(monkeypatch, on_log):
    """A source that gives nothing for longer than expected is told once; its neighbour is stored meanwhile."""
    monkeypatch.setattr(run_module, "WATCH_EVERY_S", 0.02)
    silent_over = on_log("silent: nothing for")

    class Silent:
        def open(self):
            pass

        def read(self, max_records, timeout_s):
            if silent_over.wait(timeout_s):
                raise EndOfSource("done")
            return ()

        def close(self):
            pass

    silent = ps.source(Silent(), name="silent", expect_every_s=0.1) >> ps.store("null", name="a")
    report = ps.Pipeline(silent, ps.source(range(5000)) >> ps.store("null", name="b")).run()
    assert silent_over.is_set()
    assert report.account.node("b").stored == 5000
    assert report.ok, report


def test_a_source_that_was_paused_was_not_silent(monkeypatch, on_log):
    """The watchdog counts from the moment when a source is asked again, not from before its pause."""
    monkeypatch.setattr(run_module, "WATCH_EVERY_S", 0.02)
    watched, told = threading.Event(), on_log("paused: nothing for")
    look = Watch.look

    def count(watch, *arguments):
        look(watch, *arguments)
        watched.set()

    monkeypatch.setattr(Watch, "look", count)

    class Silent:
        def open(self):
            pass

        def read(self, max_records, timeout_s):
            threading.Event().wait(min(timeout_s, 0.01))
            return ()

        def close(self):
            pass

    source = ps.source(Silent(), name="paused", expect_every_s=60)
    with ps.Pipeline(source >> ps.store("null")).start() as run:
        run.pause("paused")
        run._plan.sources["paused"].last_record -= 3600
        run.resume("paused")
        for _ in range(2):
            watched.clear()
            assert watched.wait(20)
    assert not told.is_set()
    assert run.report.ok, run.report


def test_drops_of_an_edge_that_comes_again_are_told_from_the_first():
    """An edge with the name of a removed one is reported by its own counters, not by the drops of the old one."""
    told = []
    watch = Watch(lambda hook, **facts: told.append((hook, facts)))
    for dropped in (5, 3):
        live = LiveEdge(Inbox(), "camera >> viewer", ps.edge(capacity=1, when_full="drop_oldest"))
        plan = Plan(edges={("camera", "viewer"): [live]})
        for number in range(dropped + 1):
            live.put(1, [ps.Record(number, channel="c")])
        for _ in range(2):
            watch.look(plan, 0.0)
    facts = {"edge": "camera >> viewer", "channel": "c"}
    assert told == [("penstock_records_dropped", {**facts, "count": count}) for count in (5, 3)]
