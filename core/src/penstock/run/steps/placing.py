"""Placing: make a source or a store where its node says: here, or in a process of its own."""

from __future__ import annotations

from typing import Any

from penstock.compose.resolve import Part
from penstock.report.counters import Tally
from penstock.run.context import RunContext


def make_component(part: Part, run: RunContext, tally: Tally) -> Any:
    """Return the component of a source or a store; not opened."""
    if part.node.place != "process":
        return part.make()
    if part.node.role == "source":
        from penstock.run.process.asking.remote_source import remote_source

        return remote_source(part, run, tally)
    from penstock.run.process.asking.remote_store import remote_store

    return remote_store(part, run, tally)
