"""Collecting: run a pipeline, and return its records as a list."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from penstock.builtin.memory import own
from penstock.compose.factories import store
from penstock.compose.graph import PipelineGraph
from penstock.compose.node import Flow
from penstock.record import Record
from penstock.run.foreground import run_in_foreground
from penstock.validators import at_least, check_argument, or_none

if TYPE_CHECKING:
    from penstock.plugins import Plugins
    from penstock.run.engine import Engine


def collect(
    pipeline: PipelineGraph,
    make: Callable[..., PipelineGraph],
    *,
    limit: int | None,
    progress: bool,
    check: bool,
    plugins: Plugins,
) -> list[Record]:
    """See `Pipeline.collect`. `make` returns the pipeline with the collecting store added to it."""
    limit = check_argument("limit", limit, or_none(at_least(1)))
    collected = Collected(limit)
    flow = pipeline.flow()
    leads_on = {before.name for before, _, _ in flow.edges}
    stores = {node.name for node in flow.nodes if node.role == "store"}
    ends = [node for node in flow.nodes if node.name not in leads_on and node.role != "store"]
    if stores:
        ends = list(dict.fromkeys(before for before, after, _ in flow.edges if after.name in stores))
    taken = {node.name for node in flow.nodes}
    name = next(name for name in (f"collected{'-' * count}" for count in range(len(taken) + 1)) if name not in taken)
    beside = Flow.of(tuple(ends)) >> store(collected, name=name)
    whole = make(
        flow,
        beside,
        name=pipeline.name,
        checkpoint_every_s=pipeline.checkpoint_every_s,
        dead_letters=pipeline.dead_letters,
    )
    report = run_in_foreground(
        whole, progress=progress, plugins=plugins, logs_problems=not check, made=lambda run: collected.begin(run)
    )
    if check:
        report.raise_if_failed()
    return collected.records[:limit]


class Collected:
    """A store that keeps records in a list and ends its run at the limit. All ends of a pipeline lead to it."""

    takes: ClassVar[str] = "any"
    blocks: ClassVar[bool] = False

    def __init__(self, limit: int | None) -> None:
        self.records: list[Record] = []
        self._limit = limit
        self._run: Engine | None = None
        self._lock = threading.Lock()

    def begin(self, run: Engine) -> None:
        """Set the run to end at the limit."""
        self._run = run

    def open(self) -> None:
        """Do nothing."""

    def write(self, records: Sequence[Record]) -> None:
        """Keep the records, with a copy of each array."""
        with self._lock:
            if self._limit is not None and len(self.records) >= self._limit:
                return
            self.records.extend(map(own, records))
            is_enough = self._limit is not None and len(self.records) >= self._limit
        if is_enough and self._run is not None:
            self._run.stop_soon()

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
