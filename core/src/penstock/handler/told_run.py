"""start_told: start a run that tells somebody of each record that failed for good."""

from __future__ import annotations

from collections.abc import Callable

from penstock.compose.pipeline import Pipeline
from penstock.compose.resolve import Part
from penstock.plugins import Plugins
from penstock.record import Record
from penstock.run.run import Run


def start_told(pipeline: Pipeline, plugins: Plugins, failed: Callable[[Part, Record, BaseException], None]) -> Run:
    """Start a pipeline; call `failed` with each record that goes to the dead letters, or that even they refuse.

    The watching hooks do not name the record, and those who wait for its data must hear of it.
    """

    class ToldRun(Run):
        def dead_letter(self, part: Part, record: Record, error: BaseException, tries: int) -> None:
            try:
                super().dead_letter(part, record, error, tries)
            finally:
                failed(part, record, error)

    return ToldRun.start(pipeline, plugins=plugins)
