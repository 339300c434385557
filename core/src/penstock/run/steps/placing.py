"""Placing: makes a source or a store at the place of its node: in this process, or in a worker process."""

from __future__ import annotations

from typing import Any

from penstock.compose.resolve import ResolvedNode
from penstock.report.counters import Counters
from penstock.run.context import RunContext


def make_component(resolved: ResolvedNode, run: RunContext, counters: Counters) -> Any:
    """Return the component of a source or a store, not opened."""
    if resolved.node.place != "process":
        return resolved.make()
    if resolved.node.role == "source":
        from penstock.run.process.asking.remote_source import remote_source

        return remote_source(resolved, run, counters)
    from penstock.run.process.asking.remote_store import remote_store

    return remote_store(resolved, run, counters)
