"""LaneContext: the part of a run that its lanes can see, which is more than its steps can."""

from __future__ import annotations

from typing import Any, Protocol

from penstock.run.context import RunContext
from penstock.run.lanes.checkpoints import Checkpoints


class LaneContext(RunContext, Protocol):
    """The run, as seen by its threads."""

    @property
    def name(self) -> str:
        """The name of the pipeline."""
        ...

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints that sources and stores take part in."""
        ...

    def abort(self) -> None:
        """End without draining; returns at once."""
        ...

    def stop_soon(self) -> None:
        """Ask the sources to end; returns at once."""
        ...

    def source_ended(self, lane: Any) -> None:
        """Record that a source has ended, and waits to commit."""
        ...

    def left(self, lane: Any) -> None:
        """Remove a lane whose thread is about to end."""
        ...
