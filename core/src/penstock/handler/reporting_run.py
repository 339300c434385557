"""start_reporting: start a run that reports each record that failed for good."""

from __future__ import annotations

from collections.abc import Callable

from penstock.compose.pipeline import Pipeline
from penstock.compose.resolve import ResolvedNode
from penstock.plugins import Plugins
from penstock.record import Record
from penstock.run.engine import Engine
from penstock.run.run import Run


def start_reporting(
    pipeline: Pipeline,
    plugins: Plugins,
    *,
    failed: Callable[[ResolvedNode, Record, BaseException], None],
    finished_at_exit: Callable[[], None],
) -> Run:
    """Start a pipeline; call `failed` with each record that goes to the dead letters, or is refused even by them.

    The run hooks do not name the record, but waiters for its data must be notified. `finished_at_exit` is
    called when the end of the program has drained the run.
    """

    def tell(engine: Engine) -> None:
        engine.failed = failed
        engine.finished_at_exit = finished_at_exit

    return Run.start(pipeline, plugins=plugins, made=tell)
