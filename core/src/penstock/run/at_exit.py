"""Drains active runs when the program ends, before the interpreter stops its threads."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from penstock.report.run_report import RunReport
from penstock.run.draining import EndingRun, counted, drain, tell, under_way
from penstock.run.signals import SigtermLeaves


class WatchedRun(EndingRun, Protocol):
    """A run that is drained at the end of the program.

    Attributes:
        report: The report, once the run is over.
        owner: The thread that waits inside `Pipeline.run` for the run to end, if there is one.
        finished_at_exit: Called after the run was drained at the end of the program.
    """

    report: RunReport | None
    owner: threading.Thread | None
    finished_at_exit: Callable[[], None]


LIMIT_S: Final = 30.0
"""Seconds that runs may drain at the end of the program, unless PENSTOCK_EXIT_DRAIN_S is set."""

_at_work: dict[WatchedRun, None] = {}
_sigterm = SigtermLeaves()
_lock = threading.Lock()
_registered = False
_lost = False


def watch_over(run: WatchedRun) -> None:
    """Drain this run at the end of the program, unless it is over by then.

    Until `release`, SIGTERM ends the program like an exception in its main thread, if the run was started there and the
    signal has no handler: by default it kills a program, which then does not drain.
    """
    global _registered
    _sigterm.enter()
    with _lock:
        _at_work[run] = None
        if _registered:
            return
        _registered = True
    # Called before the interpreter joins threads; after that no thread can start and executors accept no work.
    # Executors register here when they are imported, and the last to register is called first.
    register = getattr(threading, "_register_atexit", None)
    with contextlib.suppress(RuntimeError):  # the interpreter is already shutting down; atexit still works
        import concurrent.futures.thread  # noqa: F401 - see above

        if register is not None:
            register(_drain_all)
    atexit.register(_drain_all)  # for runs that a thread has started since, and where there is no such hook
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)


def forget(run: WatchedRun) -> None:
    """Stop watching over this run: it is over."""
    with _lock:
        _at_work.pop(run, None)


def release() -> None:
    """Let SIGTERM do what it did before, unless a run is still at work. Has no effect outside the main thread."""
    with _lock:
        if _at_work:
            return
    _sigterm.leave()


def _forget() -> None:
    """Forget the runs of the parent process: their threads do not exist here."""
    global _lock
    _lock = threading.Lock()
    _at_work.clear()
    _sigterm.leave()


def _drain_all() -> None:
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends the wait for the threads
        _join_others()
    with _lock:
        runs = [run for run in _at_work if not _is_waited_for(run)]
    if not runs:
        return
    limit_s = _limit_s()
    for run in runs:
        tell(
            f"run {run.name!r} is still at work at the end of the program: draining {counted(under_way(run))}, "
            f"for {limit_s:g} s at most; Ctrl-C drops them"
        )
    began = time.monotonic()
    drain(runs, limit_s=limit_s)
    for run in runs:
        _tell_end(run, time.monotonic() - began)
        run.finished_at_exit()


def _tell_end(run: WatchedRun, seconds: float) -> None:
    report = run.report
    assert report is not None  # wait() has returned
    if report.aborted:
        lost = report.lost + report.lost_upstream
        tell(f"run {run.name!r} did not drain: {counted(lost)} lost, {report.stored} stored; stop it in time")
    else:
        tell(f"run {run.name!r} drained in {seconds:.1f} s: {report.stored} stored; end it with stop() or `with`")
    if report.aborted or report.lost:
        _leave_with_failure()


def _leave_with_failure() -> None:
    """Make the program exit with status 1: records that it should have stored are lost."""
    global _lost
    if not _lost:
        _lost = True
        atexit.register(_exit)  # the last to register is called first


def _exit() -> None:
    """Finish as the interpreter does, and exit with status 1, which an `atexit` function cannot request."""
    atexit.unregister(_exit)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or None
            stream.flush()
    os._exit(1)


def _join_others() -> None:
    """Wait for the threads that keep a program alive: they may put records into a run, or stop it themselves.

    Threads of executors are not among them: the interpreter ends them right after this.
    """
    while True:
        with _lock:
            if not _at_work:
                return
        others = [thread for thread in threading.enumerate() if _keeps_alive(thread)]
        if not others:
            return
        for thread in others:
            thread.join(0.1)


def _keeps_alive(thread: threading.Thread) -> bool:
    if thread.daemon or thread in (threading.main_thread(), threading.current_thread()):
        return False
    target = getattr(thread, "_target", None)
    modules = (type(thread).__module__, getattr(target, "__module__", None) or "")
    return not any(module.startswith("concurrent.futures") for module in modules)


def _is_waited_for(run: WatchedRun) -> bool:
    """Return whether a thread that keeps the program alive is waiting for the run inside `Pipeline.run`."""
    owner = run.owner
    return owner is not None and owner.is_alive() and not owner.daemon and owner is not threading.main_thread()


def _limit_s() -> float:
    try:
        return max(0.0, float(os.environ["PENSTOCK_EXIT_DRAIN_S"]))
    except (KeyError, ValueError):
        return LIMIT_S
