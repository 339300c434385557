"""A program that ends while its runs are at work: they drain, it is reported, and what is lost is counted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest

SLOW = """
import os, sys, threading, time
import numpy, penstock as ps

def slow(record):
    time.sleep(0.01)
    return record

def begin(name="a", items=None, processor=slow):
    items = (numpy.full(4, i) for i in range(60)) if items is None else items
    flow = ps.source(items, name="camera") >> ps.edge(capacity=500) >> ps.processor(processor, name="slow")
    run = ps.Pipeline(flow >> ps.store("npy", path=name + "/{{ seq }}.npy"), name=name).start()
    deadline = time.monotonic() + 20
    while run.stats().node("camera").received < 60 and time.monotonic() < deadline:
        time.sleep(0.001)
    return run
"""


def run_program(directory, code, *, status=0, **environment):
    """Run a program, and return what it wrote on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", SLOW + textwrap.dedent(code)],
        cwd=directory, capture_output=True, text=True, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stderr


def stored(directory, name="a"):
    """Return how many records a run of this name has stored."""
    return len(list((directory / name).glob("*.npy")))


@pytest.mark.parametrize(
    ("end", "status"),
    [("", 0), ("raise ValueError('mine')", 1), ("sys.exit(3)", 3), ("raise KeyboardInterrupt", -signal.SIGINT)],
)
def test_a_run_that_nobody_stops_is_drained(tmp_path, end, status):
    """However a program ends, what its run has received is stored, stderr says so, and the exit status stays."""
    errors = run_program(tmp_path, f"begin()\n{end}", status=status)
    assert stored(tmp_path) == 60
    assert re.search(r"run 'a' is still at work at the end of the program: draining \d+ records, for 30 s", errors)
    assert "run 'a' drained in" in errors
    assert "60 stored" in errors


def test_several_runs_and_one_without_end(tmp_path):
    """Every run is drained, one whose source never ends too."""
    errors = run_program(
        tmp_path,
        """
        import itertools
        def endless():
            for i in itertools.count():
                if i >= 60: time.sleep(0.02)
                yield numpy.full(4, i)
        begin("a"); begin("b", endless())
        """,
    )
    assert stored(tmp_path) == 60
    assert stored(tmp_path, "b") >= 60
    assert errors.count("drained in") == 2


def test_what_does_not_drain_in_time_is_counted(tmp_path):
    """A processor that blocks for ever holds the end up no longer than stated; the loss is counted, with status 1."""
    errors = run_program(
        tmp_path,
        "import atexit\natexit.register(print, 'mine too', file=sys.stderr)\n"
        "begin(processor=lambda record: threading.Event().wait())\n"
        "atexit.register(print, 'mine', file=sys.stderr)",
        status=1,
        PENSTOCK_EXIT_DRAIN_S="0.3",
    )
    assert "for 0.3 s at most" in errors
    assert "run 'a' did not drain: 60 records lost, 0 stored" in errors
    assert "node 'slow' has been blocking" in errors
    assert errors.count("mine") == 2
    assert errors.count("mine too") == 1


def test_a_source_that_blocks_loses_nothing_that_it_gave(tmp_path):
    """A source that never returns is left behind; what it gave before is stored."""
    errors = run_program(
        tmp_path,
        """
        def stuck():
            yield from (numpy.full(4, i) for i in range(59))
            time.sleep(0.02)  # longer than an iterable's items are collected
            yield numpy.full(4, 59)
            threading.Event().wait()
        begin(items=stuck())
        """,
        status=1,
        PENSTOCK_EXIT_DRAIN_S="3",
    )
    assert stored(tmp_path) == 60
    assert "node 'camera" in errors
    assert "60 stored" in errors


def test_threads_and_executors_work_while_it_drains(tmp_path):
    """A processor may hand its work to an executor, and start threads, until the run has drained."""
    run_program(
        tmp_path,
        """
        def make():
            from concurrent.futures import ThreadPoolExecutor
            pool = ThreadPoolExecutor(2)
            def work(record):
                helper = threading.Thread(target=time.sleep, args=(0.005,))
                helper.start()
                helper.join()
                return pool.submit(slow, record).result()
            return work
        begin(processor=make())
        """,
    )
    assert stored(tmp_path) == 60


def test_threads_of_the_program_are_waited_for(tmp_path):
    """A thread that puts into a handler when the main thread has ended is not a fault: the handler drains behind it."""
    errors = run_program(
        tmp_path,
        """
        handler = ps.DataHandler(ps.store("npy", path="a/{{ coords.t }}.npy"), lambda coords, data, metadata:
                                 (coords, data, metadata))
        def put():
            for t in range(60):
                time.sleep(0.002)
                handler.put({"t": t}, numpy.full(4, t))
        threading.Thread(target=put).start()
        """,
    )
    assert stored(tmp_path) == 60
    assert "run 'data' drained" in errors


def test_run_in_a_thread_is_nobodys_but_its_own(tmp_path):
    """`Pipeline.run` in a thread that keeps the program alive goes to its end; in a daemon thread it is drained."""
    code = """
        def late():
            for i in range(60):
                time.sleep(0.005)
                yield numpy.full(4, i)
        pipeline = ps.Pipeline(ps.source(late()) >> ps.store("npy", path="a/{{ seq }}.npy"), name="a")
        threading.Thread(target=pipeline.run, daemon=DAEMON).start()
        while not os.path.exists("a/5.npy"): time.sleep(0.001)
        """
    assert "drain" not in run_program(tmp_path, code.replace("DAEMON", "False"))
    assert stored(tmp_path) == 60
    (tmp_path / "second").mkdir()
    assert "drained in" in run_program(tmp_path / "second", code.replace("DAEMON", "True"))
    assert 5 <= stored(tmp_path / "second") < 60


def test_a_handler_that_nobody_keeps(tmp_path):
    """A handler that is neither closed nor referred to stores what was put, also into a store that needs its close."""
    run_program(
        tmp_path,
        """
        def fill():
            handler = ps.DataHandler(ps.store("npy", path="a/{{ coords.t }}.npy"), lambda coords, data, metadata:
                                     (time.sleep(0.005), (coords, data, metadata))[1])
            for t in range(60):
                handler.put({"t": t}, numpy.full(4, t))
        fill()
        import gc; gc.collect()
        """,
    )
    assert stored(tmp_path) == 60


@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)", "run.__exit__(None, None, None); os._exit(0)"])
def test_a_fork_leaves_the_run_to_its_parent(tmp_path, leave):
    """A forked child that ends neither drains nor waits for the run of its parent, which stores everything."""
    errors = run_program(
        tmp_path,
        f"""
        import warnings; warnings.simplefilter("ignore")
        run = begin()
        child = os.fork()
        if not child:
            {leave}
        assert os.waitpid(child, 0)[1] == 0
        """,
    )
    assert stored(tmp_path) == 60
    assert errors.count("drained in") == 1


def test_a_child_of_multiprocessing_drains_its_own(tmp_path):
    """A run that a child process of multiprocessing starts and leaves is drained at the end of that child."""
    errors = run_program(
        tmp_path,
        """
        import multiprocessing
        child = multiprocessing.get_context("fork").Process(target=begin, args=("child",))
        child.start(); child.join()
        assert child.exitcode == 0
        """,
    )
    assert stored(tmp_path, "child") == 60
    assert errors.count("drained in") == 1


def test_a_run_that_is_stopped_says_nothing(tmp_path):
    """A run that its program ends itself costs no line on stderr."""
    assert run_program(tmp_path, "begin().stop()") == ""
    assert stored(tmp_path) == 60


def test_records_in_a_push_source_are_drained(tmp_path):
    """What was put into a push source, and not yet read, is stored when the run drains, and not lost."""
    run_program(
        tmp_path,
        """
        from penstock.builtin.push import PushSource
        push = PushSource()
        flow = ps.source(push) >> ps.edge(capacity=2) >> slow >> ps.store("npy", path="a/{{ seq }}.npy")
        ps.Pipeline(flow).start()
        push.put([numpy.full(4, i) for i in range(60)])
        """,
    )
    assert stored(tmp_path) == 60


if sys.version_info < (3, 12):  # since then no thread can be started when the main thread has ended

    def test_a_run_that_a_thread_starts_after_the_main_thread_has_ended(tmp_path):
        """A run that begins in a thread which outlives the main thread does its work."""
        errors = run_program(
            tmp_path,
            """
            import threading
            def work():
                threading.main_thread().join()
                report = ps.Pipeline(ps.source(range(20)) >> ps.store("null")).run(check=True)
                open("stored", "w").write(str(report.stored))
            threading.Thread(target=work).start()
            """,
        )
        assert "Traceback" not in errors
        assert (tmp_path / "stored").read_text() == "20"
