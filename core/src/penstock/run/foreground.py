"""Running in the foreground: signals drain or abort, and progress is shown."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING, Any

from penstock.run.report import RunReport
from penstock.run.run import Run

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline
    from penstock.plugins import Plugins


def run_in_foreground(pipeline: Pipeline, *, progress: bool, plugins: Plugins) -> RunReport:
    """Run a pipeline to its end; see `Pipeline.run`."""
    run = Run.start(pipeline, plugins=plugins)
    with _signals(run), _progress(run) if progress else nullcontext():
        report = None
        while report is None:
            report = run.wait(0.5)  # in parts, so that signals are handled
    return report


@contextmanager
def _signals(run: Run) -> Iterator[None]:
    """Let SIGINT and SIGTERM drain the run, and the second one abort it, where this thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        # Another thread does it: a handler runs between two instructions of this one, which may hold any lock.
        act: Callable[[], None] = run.abort if len(seen) > 1 else run.stop_soon
        threading.Thread(target=act, daemon=True).start()

    before: dict[int, Any] = {}
    try:
        for each in (signal.SIGINT, signal.SIGTERM):
            before[each] = signal.signal(each, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(run: Run) -> Any:
    from penstock.run.progress import Progress

    return Progress(run)
