"""The step for each role."""

from __future__ import annotations

from penstock.compose.resolve import Part
from penstock.report.counters import Tally
from penstock.run.context import RunContext
from penstock.run.steps.decode_step import DecodeStep
from penstock.run.steps.process_step import ProcessStep
from penstock.run.steps.step import Step
from penstock.run.steps.store_step import StoreStep


def step_for(part: Part, run: RunContext, tally: Tally | None = None) -> Step:
    """Make the step for a part; with the tally of another it goes on counting there."""
    if part.node.place == "process" and part.node.role != "store":
        from penstock.run.process.asking.remote_step import RemoteStep

        return RemoteStep(part, run, tally)
    kinds: dict[str, type[Step]] = {"decoder": DecodeStep, "processor": ProcessStep, "store": StoreStep}
    return kinds[part.node.role](part, run, tally)
