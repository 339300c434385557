"""Running in the foreground: signals drain or abort, and progress is shown."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import nullcontext
from types import FrameType
from typing import TYPE_CHECKING, Any

from penstock.report.run_report import RunReport
from penstock.run.run import Run

if TYPE_CHECKING:
    from penstock.compose.pipeline import Pipeline
    from penstock.plugins import Plugins


def run_in_foreground(pipeline: Pipeline, *, progress: bool, plugins: Plugins) -> RunReport:
    """Run a pipeline to its end; see `Pipeline.run`."""
    signals = _Signals()
    with signals:
        run = Run.start(pipeline, plugins=plugins, made=signals.watch)
        report = None
        with _progress(run) if progress else nullcontext():
            while report is None:
                report = run.wait(0.5)  # in parts, so that signals are handled
    return report


class _Signals:
    """Let SIGINT and SIGTERM drain a run, and the second one abort it, where this thread may say so.

    The handlers stand before anything opens; as long as the run is not at work, a signal interrupts the start.
    """

    def __init__(self) -> None:
        self._run: Run | None = None
        self._seen = 0
        self._before: dict[int, Any] = {}

    def watch(self, run: Run) -> None:
        """Be told which run it is."""
        self._run = run

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        run = self._run
        if run is None or not run.at_work:
            raise KeyboardInterrupt(f"signal {number} while the run was starting")
        self._seen += 1
        # Another thread does it: a handler runs between two instructions of this one, which may hold any lock.
        act: Callable[[], None] = run.abort if self._seen > 1 else run.stop_soon
        threading.Thread(target=act, daemon=True).start()


def _progress(run: Run) -> Any:
    from penstock.run.progress import Progress

    return Progress(run)
