"""Engine: what the threads of a run share: its plan and graph, its state, and what they may ask of it.

`Run` is what users hold; lanes, steps, changes, the supervisor and the end of the program work with this. It is the
`LaneContext` of lanes, the `RunContext` of steps, and the `ChangingRun` of changes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.compose.resolve import ResolvedNode
from penstock.error_text import text_for_record, trace_of
from penstock.errors import RunError
from penstock.fields import readable
from penstock.record import Record
from penstock.report.account import Account
from penstock.report.run_report import RunReport
from penstock.run.claims import Claims
from penstock.run.lanes.checkpoints import Checkpoints
from penstock.run.lanes.inbox_lane import InboxLane
from penstock.run.lanes.lane import Lane
from penstock.run.lanes.source_lane import SourceLane
from penstock.run.plan.changes import Graph, whole_account
from penstock.run.plan.planning import Plan
from penstock.run.plan.turns import Turns
from penstock.run.steps.dead_letters import DeadLetters

if TYPE_CHECKING:
    from penstock.compose.graph import PipelineGraph
    from penstock.plugins import Plugins

_log = logging.getLogger("penstock.run")


class Engine:
    """What the threads of a run share. All methods: any thread.

    Attributes:
        handle: The run as its users hold it; components that act on it are given this.
        plan, graph: Its lanes and edges, and its nodes, as they are now.
        aborting: Whether it ends without draining.
        at_work: Whether records flow; before that it is starting.
        no_more: Whether its sources have been told to end.
        emptied: Whether it goes on without any source.
        checkpoint_wanted: Whether a checkpoint is to begin as soon as none is under way.
        wake: Wakes the supervisor.
        over: Set when the report is there.
        errors: What went wrong beside single records.
        report: The report, once it is over.
        owner: The thread that waits for its end inside `Pipeline.run`, if one does.
        is_told: Whether its end logs what is not ok.
        finished_at_exit: Called when the end of the program has drained it.
        failed: Called with each record that goes to the dead letters, or that even they refuse.
    """

    def __init__(self, pipeline: PipelineGraph, plugins: Plugins, *, handle: Any) -> None:
        self.handle = handle
        self.name = pipeline.name
        self.checkpoint_every_s = pipeline.checkpoint_every_s
        self.plugins = plugins
        self.plan = Plan()
        self.graph = Graph(nodes={}, parts={}, joins=[])
        self.dead_letters = DeadLetters(Path(pipeline.dead_letters), pipeline.name)
        self.checkpoints = Checkpoints(self.dead_letters.sync, self._checkpointed, self.plan.announce, self.trouble)
        self.claims = Claims(pipeline.name)
        self.turns = Turns(self.name, may=self.must_run, in_lane=self.in_lane)
        self.aborting = False
        self.at_work = False
        self.no_more = False
        self.emptied = False
        self.checkpoint_wanted = False
        self.wake = threading.Event()
        self.over = threading.Event()
        self.errors: list[str] = []
        self.report: RunReport | None = None
        self.owner: threading.Thread | None = None
        self.is_told = True
        self.finished_at_exit: Callable[[], None] = lambda: None
        self.failed: Callable[[ResolvedNode, Record, BaseException], None] = lambda part, record, error: None
        self.started = time.monotonic()
        self.started_ns = time.time_ns()
        self._letters_from: set[str | None] = set()
        self._lock = threading.Lock()
        self._live: set[Lane] = set()

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self.over.is_set()

    def wait(self, timeout_s: float | None = None) -> RunReport | None:
        """Wait until the run is over, and return its report; None if it is not over within `timeout_s` seconds."""
        return self.report if self.over.wait(timeout_s) else None

    def stats(self) -> Account:
        """Return what every node and edge has done so far."""
        return whole_account(self.graph, self.plan, time.monotonic() - self.started)

    def sources(self) -> dict[str, Any]:
        """Return the components that are read, by the names of their nodes."""
        return {name: lane.source for name, lane in list(self.plan.sources.items())}

    def must_run(self) -> None:
        """Raise RunError if the run cannot be changed any more."""
        if self.over.is_set() or self.aborting or self.no_more:
            raise RunError(f"run {self.name!r} is over, or about to be")

    # -- the end -------------------------------------------------------------------------------------------------------

    def stop_soon(self) -> None:
        """Let the sources end; returns at once. The run drains, and ends by itself."""
        self.no_more = True
        for lane in list(self.plan.sources.values()):
            lane.stop()
        self.wake.set()

    def abort(self) -> None:
        """End without draining; returns at once."""
        self.aborting = True
        for lane in list(self.plan.lanes):
            lane.halt()
            if isinstance(lane, InboxLane):
                lane.inbox.abort()
            elif isinstance(lane, SourceLane):
                lane.post("close")
        self.wake.set()

    def fail(self, message: str, error: BaseException) -> None:
        """End the run: sources stop, what is on its way drains, and nothing more is committed."""
        self.checkpoints.poison(message)
        self.trouble(message, error)
        self.stop_soon()

    # -- lanes ---------------------------------------------------------------------------------------------------------

    def lanes_start(self, lanes: Sequence[Lane]) -> None:
        """Start the threads of lanes."""
        with self._lock:
            self._live.update(lanes)
        for lane in lanes:
            lane.thread.start()

    def left(self, lane: Lane) -> None:
        """Go on without a lane: its thread is about to end."""
        if isinstance(lane, SourceLane):
            self.checkpoints.remove_source(lane)
        with self._lock:
            self._live.discard(lane)
        self.wake.set()

    def source_ended(self, lane: SourceLane) -> None:
        """Note that a source has ended, and waits to commit."""
        self.wake.set()

    def alive(self) -> set[Lane]:
        """Return the lanes whose threads work."""
        with self._lock:
            return set(self._live)

    def in_lane(self) -> bool:
        """Return whether the current thread is that of a lane."""
        return any(threading.current_thread() is lane.thread for lane in self.alive())

    def checkpoint_soon(self) -> None:
        """Begin a checkpoint as soon as none is under way."""
        self.checkpoint_wanted = True
        self.wake.set()

    def _checkpointed(self, positions: Mapping[str, Any]) -> None:
        self.tell("penstock_checkpoint", name=self.name, positions=positions)
        self.wake.set()

    # -- errors and watchers -------------------------------------------------------------------------------------------

    def dead_letter(self, resolved: ResolvedNode, record: Record, error: BaseException, tries: int) -> None:
        """Keep a record that failed for good. Raises if that is not possible."""
        try:
            self._keep(resolved, record, error, tries)
        finally:
            self.failed(resolved, record, error)

    def _keep(self, resolved: ResolvedNode, record: Record, error: BaseException, tries: int) -> None:
        self.dead_letters.put(resolved, record, error, tries)
        level = (
            logging.DEBUG if resolved.node.name in self._letters_from else logging.WARNING
        )  # a million must not flood
        self._letters_from.add(resolved.node.name)
        named, _ = readable(record)
        _log.log(level, "%s: %s", resolved.where, text_for_record(record, error))
        self.tell(
            "penstock_record_dead_lettered", name=self.name, node=resolved.node.name, channel=named.channel, error=error
        )

    def trouble(self, message: str, error: BaseException) -> None:
        """Report something that is no single record's fault; the run goes on."""
        with self._lock:
            if message in self.errors:  # a call that fails again and again is told once
                return
            self.errors.append(message)
        _log.error("%s\n%s", message, trace_of(error))

    def tell(self, hook: str, **facts: Any) -> None:
        """Call a watcher hook; its errors are logged and stop nothing."""
        call: Callable[..., Any] = getattr(self.plugins.hook, hook)
        try:
            call(**facts)
        except BaseException as error:  # a watcher may raise anything, even leave the process: it must not stop a run
            _log.error("a plugin's %s failed\n%s", hook, trace_of(error))
