"""SIGINT and SIGTERM drain, in `run()` and in `with`; a second one aborts, and what is lost is reported."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading

import pytest

import penstock as ps
from penstock.recordlog import read_log
from penstock.run.draining import ONE_PRESS_S


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


PROGRAM = """
import pathlib, signal, sys, threading, time
import penstock as ps

def slow(*given):
    time.sleep(0.01)
    return given[0] if len(given) == 1 else given

clogged = threading.Event()

def clog(*given):
    clogged.set()
    threading.Event().wait()

def started(function, store):
    numbers = ps.source(range(60), name="numbers")
    return ps.Pipeline(numbers >> ps.edge(capacity=500) >> ps.processor(function, name="f") >> store).start()

def handler(function, store):
    made = ps.DataHandler(store, function, name="data")
    for number in range(60):
        made.put({"t": number}, b"x")
    return made

make, function = globals()[sys.argv[1]], globals()[sys.argv[2]]
try:
    with make(function, ps.store("log", path="all.log")) as run:
        while sys.argv[1] == "started" and run.stats().node("numbers").received < 60:
            time.sleep(0.001)
        function is slow or clogged.wait()  # from then on nothing moves
        print("at work", flush=True)
        threading.Event().wait()
except KeyboardInterrupt:
    print("interrupted")
    raise SystemExit(5)
"""


@pytest.fixture
def program(tmp_path):
    """A function that starts PROGRAM with these arguments and waits until it is at work."""
    children = []

    def begin(*arguments, code=PROGRAM):
        child = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=tmp_path, stdout=-1, stderr=-1, text=True
        )
        children.append(child)
        assert child.stdout.readline() == "at work\n"
        return child

    yield begin
    for child in children:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("form", ["started", "handler"])
def test_ctrl_c_in_a_with_block_drains(program, tmp_path, form):
    """Ctrl-C leaves the block, everything is stored, the terminal says what happens, and the interruption goes on."""
    child = program(form, "slow")
    child.send_signal(signal.SIGINT)
    out, errors = child.communicate(timeout=60)
    assert (child.returncode, out) == (5, "interrupted\n"), errors
    assert len(list(read_log(tmp_path / "all.log"))) == 60
    assert re.search(r"draining \d+ records; Ctrl-C again drops them", errors)
    assert "NOT OK" not in errors


@pytest.mark.parametrize("form", ["started", "handler"])
def test_a_second_ctrl_c_in_a_with_block_aborts(program, tmp_path, form):
    """While a processor blocks for ever, several signals at once are one, and a later one drops the rest, counted."""
    child = program(form, "clog")
    for _ in range(5):
        child.send_signal(signal.SIGINT)
    said = child.stderr.readline()
    assert "draining 60 records; Ctrl-C again drops them" in said
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(ONE_PRESS_S + 0.3)
    child.send_signal(signal.SIGINT)
    out, errors = child.communicate(timeout=60)
    assert (child.returncode, out) == (5, "interrupted\n"), errors
    assert sum(map(int, re.findall(r"(\d+) records? (?:was|were) lost", errors))) == 60


def test_sigterm_in_a_with_block_drains(program, tmp_path):
    """SIGTERM leaves the block like Ctrl-C; everything is stored, and the exit status is that of SIGTERM."""
    child = program("started", "slow")
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 143, errors
    assert len(list(read_log(tmp_path / "all.log"))) == 60


@pytest.mark.parametrize("form", ["started", "handler"])
def test_sigterm_without_a_block_drains(program, tmp_path, form):
    """SIGTERM ends a program that has a run without a `with` block like an exception: everything is stored."""
    bare = PROGRAM.replace(
        '    with make(function, ps.store("log", path="all.log")) as run:',
        '    if run := make(function, ps.store("log", path="all.log")):',
    )
    assert bare != PROGRAM
    child = program(form, "slow", code=bare)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 143, errors
    assert len(list(read_log(tmp_path / "all.log"))) == 60
    assert "still at work at the end of the program: draining" in errors


def test_sigterm_is_as_before_after_the_last_run():
    """Runs without a `with` block leave no handler of SIGTERM behind, whether they are stopped, or waited for."""
    before = signal.getsignal(signal.SIGTERM)
    first = ps.Pipeline(ps.source(range(10)) >> ps.store("null")).start()
    handler = ps.DataHandler("memory")
    assert signal.getsignal(signal.SIGTERM) is not before
    assert first.wait() is not None
    assert signal.getsignal(signal.SIGTERM) is not before
    handler.put({"t": 0}, 1)
    handler.close()
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_while_a_block_ends_is_announced_too(program, tmp_path):
    """Ctrl-C while `with` drains by itself is the first one: it announces, all is stored, then it is raised."""
    code = PROGRAM.replace("        threading.Event().wait()\nexcept", "        pass\nexcept")
    child = program("started", "slow", code=code)
    child.send_signal(signal.SIGINT)
    out, errors = child.communicate(timeout=60)
    assert (child.returncode, out) == (5, "interrupted\n"), errors
    assert len(list(read_log(tmp_path / "all.log"))) == 60
    assert "Ctrl-C again drops them" in errors


RUN = """
import signal, sys, threading, time
import penstock as ps

def slow(record):
    time.sleep(0.01)
    return record

def say(record):
    if record.data == 5:
        print("at work", flush=True)
    return record

def numbers():
    yield from range(60)
    while True:
        time.sleep(0.01)
        yield 60

BEFORE
flow = ps.source(numbers()) >> ps.edge(capacity=500) >> ps.processor(slow) >> ps.edge(capacity=500) >> say
report = ps.Pipeline(flow >> ps.store("log", path="all.log")).run()
print(report.aborted, report.received - report.stored, flush=True)
"""


def test_several_signals_within_a_moment_are_one(program):
    """`run()` is told to end by Ctrl-C pressed three times in a hurry: it drains, and says so."""
    child = program(code=RUN.replace("BEFORE", ""))
    for _ in range(3):
        child.send_signal(signal.SIGINT)
    out, errors = child.communicate(timeout=60)
    assert (child.returncode, out) == (0, "False 0\n"), errors
    assert errors.count("Ctrl-C again drops them") == 1


def test_a_handler_of_the_users_stays(program):
    """A SIGINT handler that the program has set is called during `run()`, and what it raises drains the run first."""
    before = "def mine(*_):\n    raise RuntimeError('mine')\nsignal.signal(signal.SIGINT, mine)"
    child = program(code=RUN.replace("BEFORE", before))
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "RuntimeError: mine" in errors


def test_nothing_is_installed_outside_the_main_thread(tmp_path):
    """`with start()` and `with DataHandler` in a thread leave the handlers of signals as they are."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with ps.Pipeline(ps.source(range(10)) >> ps.store("null")).start(), ps.DataHandler("memory"):
            seen.append((signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert seen == [before]
    work()
    assert seen[1][1] == before[1]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
