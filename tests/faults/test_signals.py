"""SIGTERM under load drains, and a second one aborts and says what was lost."""

from __future__ import annotations

import json
import signal
import threading

import penstock as ps
from penstock.recordlog import read_log


def test_sigterm_under_load_loses_nothing(start, tmp_path):
    """A run that is told to end stores all it received, in order, commits it, and exits with 0."""
    child = start("flood")
    for _ in range(3):
        assert child.stdout.readline() == "at work\n"
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"]
    assert report["received"] == report["stored"] > 0
    seqs = [record.seq for _, record in read_log(tmp_path / "all.log")]
    assert seqs == list(range(report["received"]))
    assert (tmp_path / "committed").read_text() == str(report["received"])


def test_a_second_signal_aborts_and_says_what_was_lost(start, tmp_path):
    """A run whose processor blocks for ever ends at the second signal, names the processor and counts what is lost."""
    child = start("clogged")
    assert child.stdout.readline() == "at work\n"
    child.send_signal(signal.SIGTERM)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 1, errors
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["aborted"]
    assert report["balanced"]
    assert report["lost"] == report["received"] > 0
    assert any("'clog' has been blocking" in problem for problem in report["problems"])
    assert not (tmp_path / "committed").exists()


def test_a_run_in_a_thread_has_no_signals_and_needs_none():
    """`run()` works in any thread, where no signal handler can be set, and leaves the handlers as they are."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    reports = []
    pipeline = ps.Pipeline(ps.source(range(1000)) >> ps.store("null"))
    thread = threading.Thread(target=lambda: reports.append(pipeline.run()))
    thread.start()
    thread.join(30)
    assert reports[0].ok
    assert reports[0].stored == 1000
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
