"""Engine: the shared state of a run's threads, with its plan and graph.

Users have a `Run`; lanes, steps, changes, the supervisor and the exit handler use this class. It is the `LaneContext`
of lanes, the `RunContext` of steps, and the `ChangingRun` of changes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.compose.resolve import ResolvedNode
from penstock.error_text import text_for_record, text_of, trace_of
from penstock.errors import RunError
from penstock.fields import readable
from penstock.record import Record
from penstock.report.account import Account
from penstock.report.run_report import RunReport
from penstock.run.claims import Claims
from penstock.run.given_up import GivenUp
from penstock.run.lanes.checkpoints import Checkpoints
from penstock.run.lanes.inbox_lane import InboxLane
from penstock.run.lanes.lane import Lane
from penstock.run.lanes.source_lane import SourceLane
from penstock.run.plan.changes import Graph, whole_account
from penstock.run.plan.planning import Plan
from penstock.run.plan.turns import Turns
from penstock.run.steps.dead_letters import DeadLetters
from penstock.source import SupportsGivenUp

if TYPE_CHECKING:
    from penstock.compose.graph import PipelineGraph
    from penstock.plugins import Plugins

_log = logging.getLogger("penstock.run")


class Engine:
    """The shared state of a run's threads. All methods may be called from any thread.

    Attributes:
        handle: The `Run` object that users hold; passed to components that act on the run.
        plan, graph: The current lanes and edges, and the current nodes.
        aborting: Whether the run ends without draining.
        at_work: Whether records flow; before that the run is starting.
        no_more: Whether the sources have been asked to end.
        emptied: Whether the run continues without any source.
        checkpoint_wanted: Whether a checkpoint is to begin as soon as none is active.
        wake: Wakes the supervisor.
        over: Set when the report is ready.
        errors: Errors that no single record caused.
        report: The report, once the run is over.
        owner: The thread that waits inside `Pipeline.run` for the run to end, if there is one.
        logs_problems: Whether problems are logged at the end.
        finished_at_exit: Called after the run was drained at the end of the program.
        failed: Called with each record that is written to the dead letters, or that they refuse.
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
        self._abort_begun = threading.Event()
        self.at_work = False
        self.no_more = False
        self.emptied = False
        self.checkpoint_wanted = False
        self.wake = threading.Event()
        self.over = threading.Event()
        self.errors: list[str] = []
        self.report: RunReport | None = None
        self.owner: threading.Thread | None = None
        self.logs_problems = True
        self.finished_at_exit: Callable[[], None] = lambda: None
        self.failed: Callable[[ResolvedNode, Record, BaseException], None] = lambda part, record, error: None
        self.started = time.monotonic()
        self.started_ns = time.time_ns()
        self._letters_from: set[str | None] = set()
        self._given_up = GivenUp()
        self._lock = threading.Lock()
        self._live: set[Lane] = set()

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self.over.is_set()

    def wait(self, timeout_s: float | None = None) -> RunReport | None:
        """Wait until the run is over, and return its report; None if it is not over within `timeout_s` seconds."""
        if timeout_s is not None and timeout_s > threading.TIMEOUT_MAX:  # more than threads can wait
            timeout_s = None
        return self.report if self.over.wait(timeout_s) else None

    def stats(self) -> Account:
        """Return the account of the run so far."""
        return whole_account(self.graph, self.plan, time.monotonic() - self.started)

    def sources(self) -> dict[str, Any]:
        """Return the source components, by the names of their nodes."""
        return {name: lane.source for name, lane in list(self.plan.sources.items())}

    def must_run(self) -> None:
        """Raise RunError if the run can no longer be changed."""
        if self.over.is_set() or self.aborting or self.no_more:
            raise RunError(f"run {self.name!r} is over, or about to be")

    # -- the end -------------------------------------------------------------------------------------------------------

    def stop_soon(self) -> None:
        """Ask the sources to end; returns at once. The run drains, then ends."""
        self.no_more = True
        for lane in list(self.plan.sources.values()):
            lane.stop()
        self.wake.set()

    def abort(self) -> None:
        """End without draining; returns at once."""
        self.aborting = True
        self._abort_begun.set()
        for lane in list(self.plan.lanes):
            lane.halt()
            if isinstance(lane, InboxLane):
                lane.inbox.abort()
            elif isinstance(lane, SourceLane):
                lane.post("close")
        self.wake.set()

    def pause(self, seconds: float) -> None:
        """Wait for these seconds, or until the run is aborted."""
        self._abort_begun.wait(seconds)

    def fail(self, message: str, error: BaseException) -> None:
        """End the run: sources stop, records in flight drain, and nothing more is committed."""
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
        """Remove a lane whose thread is about to end."""
        if isinstance(lane, SourceLane):
            self.checkpoints.remove_source(lane)
        with self._lock:
            self._live.discard(lane)
        self.wake.set()

    def source_ended(self, lane: SourceLane) -> None:
        """Record that a source has ended, and waits to commit."""
        self.wake.set()

    def alive(self) -> set[Lane]:
        """Return the lanes whose threads are running."""
        with self._lock:
            return set(self._live)

    def in_lane(self) -> bool:
        """Return whether the current thread is a lane's."""
        return any(threading.current_thread() is lane.thread for lane in self.alive())

    def checkpoint_soon(self) -> None:
        """Begin a checkpoint as soon as none is active."""
        self.checkpoint_wanted = True
        self.wake.set()

    def _checkpointed(self, positions: Mapping[str, Any]) -> None:
        self.tell("penstock_checkpoint", name=self.name, positions=positions)
        self.wake.set()

    # -- errors and watchers -------------------------------------------------------------------------------------------

    def dead_letter(self, resolved: ResolvedNode, record: Record, error: BaseException, tries: int) -> None:
        """Write a record that failed for good to the dead letters. Raises if that is not possible."""
        try:
            self._keep(resolved, record, error, tries)
        finally:
            self.failed(resolved, record, error)

    def _keep(self, resolved: ResolvedNode, record: Record, error: BaseException, tries: int) -> None:
        self.dead_letters.put(resolved, record, error, tries)
        level = (
            logging.DEBUG if resolved.node.name in self._letters_from else logging.WARNING
        )  # a million of these must not flood the log
        self._letters_from.add(resolved.node.name)
        named, _ = readable(record)
        _log.log(level, "%s: %s", resolved.where, text_for_record(record, error))
        self.tell(
            "penstock_record_dead_lettered", name=self.name, node=resolved.node.name, channel=named.channel, error=error
        )

    def given_up(self, resolved: ResolvedNode, record: Record) -> None:
        """Notify the sources before this node that it gives up a record; of each record once."""
        told = {
            name: source
            for name, source in self.sources().items()
            if name != resolved.node.name and isinstance(source, SupportsGivenUp)
        }
        if told and self._given_up.is_first((record.channel, record.seq), self.checkpoints.number):
            for name, source in told.items():
                try:
                    source.given_up(record.channel)
                except BaseException as error:  # it must not cost the record its dead letter
                    self.trouble(f"node {name!r}: given_up() failed: {text_of(error)}", error)

    def trouble(self, message: str, error: BaseException) -> None:
        """Report an error that no single record caused; the run continues."""
        with self._lock:
            if message in self.errors:  # an error that repeats is reported once
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
