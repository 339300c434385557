"""The hooks: four that offer components, and those that watch a run. None is called per record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

from penstock.component import Component

if TYPE_CHECKING:
    from penstock.report.run_report import RunReport

PROJECT = "penstock"
CONTRACT = "v1"
ENTRY_POINT_GROUP = f"{PROJECT}.{CONTRACT}"
"""The name contains the contract's number: a plugin for another contract is recognised without importing it."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Mark a function of a plugin's `hooks` module as the implementation of the hook of the same name."""


@hookspec
def penstock_sources() -> Iterable[Component]:  # type: ignore[empty-body]  # a hook has no body
    """Offer sources: return a `Component` for each. Must not import what they need."""


@hookspec
def penstock_decoders() -> Iterable[Component]:  # type: ignore[empty-body]  # a hook has no body
    """Offer decoders: return a `Component` for each. Must not import what they need."""


@hookspec
def penstock_processors() -> Iterable[Component]:  # type: ignore[empty-body]  # a hook has no body
    """Offer processors: return a `Component` for each. Must not import what they need."""


@hookspec
def penstock_stores() -> Iterable[Component]:  # type: ignore[empty-body]  # a hook has no body
    """Offer stores: return a `Component` for each. Must not import what they need."""


@hookspec
def penstock_run_started(name: str, nodes: Mapping[str, str]) -> None:
    """Called when a run has opened everything; `nodes` maps each node's name to its role."""


@hookspec
def penstock_run_finished(name: str, report: RunReport) -> None:
    """Called with the report when a run has closed everything."""


@hookspec
def penstock_records_dropped(name: str, edge: str, channel: str, count: int) -> None:
    """Called at most once a second for an edge and channel, with the number of records dropped since the last call."""


@hookspec
def penstock_record_dead_lettered(name: str, node: str, channel: str, error: BaseException) -> None:
    """Called when a record went to the dead letters of a run."""


@hookspec
def penstock_checkpoint(name: str, positions: Mapping[str, Any]) -> None:
    """Called when everything up to these positions (by source node) is durable and committed."""


@hookspec
def penstock_stalled(name: str, node: str, silent_s: float) -> None:
    """Called when a source or edge is silent, or a component blocks, for longer than its `expect_every_s`."""
