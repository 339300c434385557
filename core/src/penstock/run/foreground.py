"""Running in the foreground: signals drain or abort, and progress is shown."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from penstock.report.run_report import RunReport
from penstock.run.draining import LOOK_EVERY_S, ONE_PRESS_S, announce, drain
from penstock.run.engine import Engine
from penstock.run.run import Run
from penstock.run.signals import is_free

if TYPE_CHECKING:
    from penstock.compose.graph import PipelineGraph
    from penstock.plugins import Plugins


def run_in_foreground(
    pipeline: PipelineGraph,
    *,
    progress: bool,
    plugins: Plugins,
    logs_problems: bool = True,
    made: Callable[[Engine], None] = lambda engine: None,
) -> RunReport:
    """Run a pipeline to its end; see `Pipeline.run`.

    Problems are logged only if `logs_problems`. `made` is called with the engine before anything opens.
    """
    signals = _Signals()

    def begin(engine: Engine) -> None:
        engine.owner = threading.current_thread()
        engine.logs_problems = logs_problems
        signals.watch(engine)
        made(engine)

    with signals:
        run = Run.start(pipeline, plugins=plugins, made=begin)
        report = None
        with _progress(run) if progress else nullcontext():
            try:
                while report is None:
                    report = run.wait(LOOK_EVERY_S)
            except BaseException as error:  # raised by a user's signal handler, or an interruption between two waits
                interruption = error if isinstance(error, (KeyboardInterrupt, SystemExit)) else None
                drain([run], interrupted=interruption)
                raise
    return report


class _Signals:
    """Drain a run on SIGINT or SIGTERM, and abort it on the second one, where this thread may handle signals.

    The handlers are installed before anything opens; while the run is starting, a signal interrupts the start. A
    handler of the user is kept. The same signal repeated within a moment counts once.
    """

    def __init__(self) -> None:
        self._run: Engine | None = None
        self._first: tuple[int, float] | None = None
        self._before: dict[int, Any] = {}

    def watch(self, run: Engine) -> None:
        """Set the run that signals end."""
        self._run = run

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            if is_free(number):
                self._before[number] = signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        run = self._run
        if run is None or not run.at_work:
            raise KeyboardInterrupt(f"signal {number} while the run was starting")
        now = time.monotonic()
        act: Callable[[], None]
        if self._first is None:
            self._first = (number, now)
            act = partial(_drain, run)
        elif self._first[0] == number and now - self._first[1] < ONE_PRESS_S:
            return
        else:
            act = run.abort
        # Done by another thread: a handler runs between two instructions of this one, which may hold any lock.
        threading.Thread(target=act, daemon=True).start()


def _drain(run: Engine) -> None:
    announce([run])
    run.stop_soon()


def _progress(run: Run) -> Any:
    from penstock.run.progress import Progress

    return Progress(run)
