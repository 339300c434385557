"""A run: its report, its live counters, and the watchdog."""

from __future__ import annotations

import json
import threading

import pytest

import penstock as ps

from .runs import Numbers


@pytest.fixture(autouse=True)
def _no_threads_left(tmp_path, monkeypatch):
    """After every test, no thread of penstock is left; dead letters go to the test's directory."""
    monkeypatch.chdir(tmp_path)
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("penstock")] == []


def test_the_report_is_for_people_and_programs():
    """The report prints its table, and its JSON has the totals, nodes and edges."""
    report = ps.Pipeline(ps.source(range(10)) >> ps.store("null"), name="ten").run()
    plain = json.loads(report.to_json())
    assert plain["ok"]
    assert plain["received"] == plain["stored"] == 10
    assert plain["nodes"][0]["channels"]["range"]["received"] == 10
    assert "run 'ten': ok" in str(report)
    assert "the counters add up" in str(report)


def test_stats_while_it_runs():
    """SourceCounters can be read at any time."""
    gate = threading.Event()
    with ps.Pipeline(ps.source(Numbers(count=5, gate=gate)) >> ps.store("null")).start() as run:
        assert run.stats().node("Numbers").role == "source"
        gate.set()
        assert run.wait(20).ok


def test_the_watchdog_names_what_is_silent_and_what_blocks():
    """A silent source and a processor that does not return are reported to the watchers, each once."""
    told, enough, release = [], threading.Event(), threading.Event()

    class Watcher:
        @ps.hookimpl
        def penstock_stalled(self, node):
            told.append(node)
            if len(set(told)) == 2:
                enough.set()

    plugins = ps.Plugins.discover()
    plugins.manager.register(Watcher())

    def block(record):
        release.wait()

    silent = ps.source(Numbers(count=0, gate=threading.Event()), name="silent", expect_every_s=0.1)
    busy = ps.source([1]) >> ps.processor(block, name="block", expect_every_s=0.1)
    run = ps.Pipeline(silent >> ps.store("null"), busy).start(plugins=plugins)
    assert enough.wait(20)
    release.set()
    assert run.stop().ok
    assert sorted(told) == ["block", "silent"]
