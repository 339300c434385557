"""The step for each role."""

from __future__ import annotations

from penstock.compose.resolve import ResolvedNode
from penstock.report.counters import Counters
from penstock.run.context import RunContext
from penstock.run.steps.decode_step import DecodeStep
from penstock.run.steps.process_step import ProcessStep
from penstock.run.steps.step import Step
from penstock.run.steps.store_step import StoreStep


def step_for(resolved: ResolvedNode, run: RunContext, counters: Counters | None = None) -> Step:
    """Make the step for a node; with `counters` it continues the counters of an earlier step."""
    if resolved.node.place == "process" and resolved.node.role != "store":
        from penstock.run.process.asking.remote_step import RemoteStep

        return RemoteStep(resolved, run, counters)
    kinds: dict[str, type[Step]] = {"decoder": DecodeStep, "processor": ProcessStep, "store": StoreStep}
    return kinds[resolved.node.role](resolved, run, counters)
