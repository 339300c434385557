"""Run: a pipeline at work, from the moment when everything is open until the report."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from penstock.compose.node import Joinable, Node
from penstock.compose.resolve import Part
from penstock.error_text import text_for_record, text_of, trace_of
from penstock.errors import RunError
from penstock.fields import readable
from penstock.record import Record
from penstock.report.account import Account
from penstock.report.run_report import RunReport
from penstock.run import at_exit
from penstock.run.claims import Claims
from penstock.run.draining import Block
from penstock.run.lanes.checkpoints import Checkpoints
from penstock.run.lanes.lane import InboxLane, Lane, close_inboxes
from penstock.run.lanes.source_lane import SourceLane
from penstock.run.plan.changes import Graph, add, remove, replace, whole_account
from penstock.run.plan.planning import Plan
from penstock.run.plan.turns import Turns
from penstock.run.steps.dead_letters import DeadLetters
from penstock.run.telling import tell_problems
from penstock.run.watchdog import Watch

if TYPE_CHECKING:
    from penstock.compose.graph import PipelineGraph
    from penstock.plugins import Plugins

_log = logging.getLogger("penstock.run")
_log.addHandler(logging.NullHandler())  # whoever wants the log configures it; what matters is in the report

ABORT_GRACE_S: Final = 5.0
"""How long an abort waits for the lanes to leave; a component that blocks for longer is named and left behind."""
WATCH_EVERY_S: Final = 1.0


class Run:
    """A pipeline at work. Made by `Pipeline.start`; used in `with`, which drains it.

    All methods may be called from any thread.

    Attributes:
        owner: The thread that waits for its end inside `Pipeline.run`, if one does.
        is_told: Whether its end logs what is not ok.
        finished_at_exit: Called when the end of the program has drained it.
    """

    def __init__(self, pipeline: PipelineGraph, plugins: Plugins) -> None:
        self.name = pipeline.name
        self.pipeline = pipeline
        self.aborting = False
        self.at_work = False
        self.dead_letters = DeadLetters(Path(pipeline.dead_letters), pipeline.name)
        self.checkpoints = Checkpoints(
            self.dead_letters.sync, self._checkpointed, lambda barrier: self._plan.announce(barrier), self.trouble
        )
        self.claims = Claims(pipeline.name)
        self.report: RunReport | None = None
        self.plugins = plugins
        self.owner: threading.Thread | None = None
        self.finished_at_exit: Callable[[], None] = lambda: None
        self.is_told = True
        self._block = Block(self)
        self._errors: list[str] = []
        self._letters_from: set[str | None] = set()
        self._lock = threading.Lock()
        self._live: set[Lane] = set()
        self._wake = threading.Event()
        self._finished = threading.Event()
        self.turns = Turns(self.name, may=self._must_run, in_lane=self._in_lane)
        self._plan = Plan()
        self._graph = Graph(nodes={}, parts={}, joins=[])
        self._no_more = False
        self._emptied = False
        self._checkpoint_wanted = False
        self._started = time.monotonic()
        self._started_ns = time.time_ns()
        self._watch = Watch(partial(self._tell, name=self.name))
        self._supervisor = threading.Thread(
            target=self._supervise, name=f"penstock {self.name}: supervisor", daemon=True
        )

    @classmethod
    def start(cls, pipeline: PipelineGraph, *, plugins: Plugins, made: Callable[[Run], None] | None = None) -> Run:
        """Check, plan, open everything, and let it run; `made` is called with the run before anything opens.

        Raises:
            WiringError, ConfigError, PluginError: before anything opens.
            RunError: a component could not be opened; all others have been closed again.
        """
        run = cls(pipeline, plugins)
        if made is not None:
            made(run)
        parts = pipeline.parts(plugins)
        try:
            add(run, run._graph, run._plan, [pipeline.flow()], parts)
        except BaseException:
            run.aborting = True
            run.dead_letters.close()
            raise
        run._graph.names.update(pipeline.names)
        run._tell("penstock_run_started", name=run.name, nodes={name: part.node.role for name, part in parts.items()})
        at_exit.watch_over(run)
        run._supervisor.start()
        return run

    # -- for users -------------------------------------------------------------------------------------------------

    def wait(self, timeout_s: float | None = None) -> RunReport | None:
        """Wait until the run is over and return its report; None if it is not over within `timeout_s` seconds.

        Raises RunError if a thread of the run would wait for itself without end.
        """
        if not self.finished:
            self._block.must_be_here()
            if timeout_s is None:
                self._must_not_wait("stop_soon() or abort()")
        return self.report if self._finished.wait(timeout_s) else None

    def stop(self, *, drain: bool = True) -> RunReport:
        """End the run and return its report. A component of the run, or its watcher, calls `stop_soon` or `abort`.

        Args:
            drain: Let everything on its way reach the stores, which sync, and let the sources commit. If False, what
                is on its way is lost, and counted as such.

        Raises:
            RunError: it was called by a thread of the run, which would wait for itself.
        """
        self._must_not_wait("stop_soon() or abort()")
        if drain:
            self.stop_soon()
        else:
            self.abort()
        report = self.wait()
        assert report is not None  # it waits for ever
        return report

    def stop_soon(self) -> None:
        """Let the sources end; returns at once. The run drains, and ends by itself."""
        self._no_more = True
        for lane in list(self._plan.sources.values()):
            lane.stop()
        self._wake.set()

    def abort(self) -> None:
        """End without draining; returns at once."""
        self.aborting = True
        for lane in list(self._plan.lanes):
            lane.halt()
            if isinstance(lane, InboxLane):
                lane.inbox.abort()
            elif isinstance(lane, SourceLane):
                lane.post("close")
        self._wake.set()

    def pause(self, source: str | Node) -> None:
        """Do not read this source until `resume`; what is on its way goes on. Raises RunError if it is none."""
        self._source(source).paused = True

    def resume(self, source: str | Node) -> None:
        """Read this source again. Raises RunError if it is none."""
        lane = self._source(source)
        lane.last_record = time.monotonic()  # it was not silent, but not asked
        lane.paused = False
        lane.post("resume")

    def node(self, name: str) -> Node:
        """Return a node of the run, to join others to it with `>>` for `add`. Raises RunError if there is none."""
        return self._graph.nodes[self._graph.name_of(name)]

    def node_names(self) -> list[str]:
        """Return the names of all nodes that run."""
        return list(self._graph.nodes)

    def add(self, *flows: Joinable) -> list[str]:
        """Add nodes while the run is at work, and return their names; nothing else is interrupted.

        A flow may contain nodes that run already: the same objects, or what `node` returns. What is new is opened
        first, all of it or none; then it takes part.

        Raises:
            WiringError, ConfigError, PluginError: something is wrong with what is new.
            RunError: it cannot be opened or joined, or the run is over.
        """
        with self.turns:
            names = add(self, self._graph, self._plan, flows)
            self._emptied = False
            return names

    def remove(self, *nodes: str | Node) -> None:
        """Remove nodes, with the decoders and processors that only they feed; stores only if they are named.

        It drains: returns when everything they had is with those behind them, stored and committed. The run goes on,
        even without any source, until it is stopped or the last source ends by itself. Not to be called by a
        component of the run from its own thread.

        Raises:
            RunError: there is no such node, it is fused with one that stays, one that stays would have nothing behind
                it any more (its records would end nowhere), a thread of the run asks for it, or the run is over. Then
                nothing has changed.
        """
        self._must_not_wait("another thread, or a control channel", helpers=True)
        with self.turns:
            before, self._emptied = self._emptied, True  # the run must not end while its last source leaves
            try:
                remove(self, self._graph, self._plan, nodes)
                before = not self._plan.sources
            finally:
                self._emptied = before
                self._wake.set()

    def replace(self, node: str | Node, new: Node) -> None:
        """Put another component of the same role in the place of one; what it had inside leaves first.

        The counts go on. A new source begins where it begins; what the old one gave is still committed there.

        Raises:
            WiringError, ConfigError, PluginError: something is wrong with the new one.
            RunError: it cannot be opened (the old one works on), a thread of the run asks for it, or the run is over.
        """
        self._must_not_wait("another thread, or a control channel", helpers=True)
        with self.turns:
            replace(self, self._graph, self._plan, node, new)

    def _must_run(self) -> None:
        if self._finished.is_set() or self.aborting or self._no_more:
            raise RunError(f"run {self.name!r} is over, or about to be")

    def _must_not_wait(self, instead: str, *, helpers: bool = False) -> None:
        waits = self.turns.is_helper and not helpers
        if waits or self._in_lane() or threading.current_thread() is self._supervisor:
            raise RunError(f"a thread of run {self.name!r} would wait for itself: let it use {instead}")

    def sources(self) -> dict[str, Any]:
        """Return the components that are read, by the names of their nodes."""
        return {name: lane.source for name, lane in list(self._plan.sources.items())}

    def _in_lane(self) -> bool:
        return any(threading.current_thread() is lane.thread for lane in self._alive())

    def stats(self) -> Account:
        """Return what every node and edge has done so far."""
        return whole_account(self._graph, self._plan, time.monotonic() - self._started)

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self._finished.is_set()

    def __enter__(self) -> Run:
        self._block.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave(error)

    def leave(self, error: BaseException | None) -> None:
        """Drain at the end of a `with` block that `error` has left, if one has. Raises an interruption of its own."""
        self._must_not_wait("stop_soon() or abort()")
        self._block.leave(error)

    # -- for lanes and their steps -----------------------------------------------------------------------------------

    def lanes_start(self, lanes: Sequence[Lane]) -> None:
        """Start the threads of lanes."""
        with self._lock:
            self._live.update(lanes)
        for lane in lanes:
            lane.thread.start()

    def checkpoint_soon(self) -> None:
        """Begin a checkpoint as soon as none is under way."""
        self._checkpoint_wanted = True
        self._wake.set()

    def left(self, lane: Lane) -> None:
        """Go on without a lane: its thread is about to end."""
        if isinstance(lane, SourceLane):
            self.checkpoints.remove_source(lane)
        with self._lock:
            self._live.discard(lane)
        self._wake.set()

    def source_ended(self, lane: SourceLane) -> None:
        """Note that a source has ended, and waits to commit."""
        self._wake.set()

    def dead_letter(self, part: Part, record: Record, error: BaseException, tries: int) -> None:
        """Keep a record that failed for good. Raises if that is not possible."""
        self.dead_letters.put(part, record, error, tries)
        level = logging.DEBUG if part.node.name in self._letters_from else logging.WARNING  # a million must not flood
        self._letters_from.add(part.node.name)
        named, _ = readable(record)
        _log.log(level, "%s: %s", part.where, text_for_record(record, error))
        self._tell(
            "penstock_record_dead_lettered", name=self.name, node=part.node.name, channel=named.channel, error=error
        )

    def fail(self, message: str, error: BaseException) -> None:
        """End the run: sources stop, what is on its way drains, and nothing more is committed."""
        self.checkpoints.poison(message)
        self.trouble(message, error)
        self.stop_soon()

    def trouble(self, message: str, error: BaseException) -> None:
        """Report something that is no single record's fault; the run goes on."""
        with self._lock:
            if message in self._errors:  # a call that fails again and again is told once
                return
            self._errors.append(message)
        _log.error("%s\n%s", message, trace_of(error))

    # -- the supervisor ------------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        """Lead the run to its report, whatever happens: everybody waits for that."""
        try:
            self._lead()
        except BaseException as error:  # a fault of penstock itself: the run must end and say so, not hang
            self.trouble(f"supervisor: {text_of(error)}", error)
            self.abort()
        try:
            self._finish()
        finally:
            self._finished.set()

    def _lead(self) -> None:
        """Begin checkpoints, watch, and return when nothing is left to do."""
        next_checkpoint = time.monotonic() + self.pipeline.checkpoint_every_s
        next_watch = time.monotonic() + WATCH_EVERY_S
        abandon_at: float | None = None
        while True:
            now = time.monotonic()
            self._wake.wait(max(0.0, min(next_checkpoint, next_watch) - now))
            self._wake.clear()
            now = time.monotonic()
            live = self._alive()
            if not live and (self._no_more or self.aborting or not self._emptied):
                break
            if self.aborting:
                abandon_at = abandon_at or now + ABORT_GRACE_S
                next_checkpoint = next_watch = now + 0.1
                if now >= abandon_at:
                    self._abandon(live)
                    break
                continue
            reading = any(isinstance(lane, SourceLane) and not lane.ended for lane in live)
            if self._no_more or not (reading or self._emptied):
                close_inboxes(live)
            if all(isinstance(lane, SourceLane) and lane.ended for lane in live) and not self._emptied:
                self._last_checkpoint(live)
                next_checkpoint = now + 0.05
            elif self._checkpoint_wanted:
                self._checkpoint_wanted = not self.checkpoints.begin() and not self.checkpoints.poisoned
                next_checkpoint = now + (0.02 if self._checkpoint_wanted else self.pipeline.checkpoint_every_s)
            elif now >= next_checkpoint:
                self.checkpoints.begin()
                next_checkpoint = now + self.pipeline.checkpoint_every_s
            if now >= next_watch:
                self._watch.look(self._plan, now)
                next_watch = now + WATCH_EVERY_S

    def _alive(self) -> set[Lane]:
        with self._lock:
            return set(self._live)

    def _last_checkpoint(self, live: set[Lane]) -> None:
        if self.checkpoints.poisoned:
            for lane in live:
                if isinstance(lane, SourceLane):
                    lane.post("close")
        else:
            self.checkpoints.begin()

    def _abandon(self, live: set[Lane]) -> None:
        for lane in live:
            lane.abandon()
            active = lane.active
            node, since = active if active else (lane.name, None)
            blocking = (
                "is at work still" if since is None else f"has been blocking for {time.monotonic() - since:.0f} s"
            )
            self._errors.append(
                f"node {node!r} {blocking}: it did not let go within {ABORT_GRACE_S:.0f} s when the run was aborted; "
                "its thread is left behind"
            )

    def _finish(self) -> None:
        for lane in self._plan.lanes:
            if lane not in self._live:
                lane.thread.join()
        try:
            self.dead_letters.close()
        except OSError as error:
            self.trouble(f"the dead letters could not be closed: {error}", error)
        self.claims.drop_all(but={name for lane in self._alive() for name in lane.node_names()})
        duration_s = time.monotonic() - self._started
        account = Account(nodes=[], edges=[], elapsed_s=duration_s)
        try:
            self._watch.look(self._plan, time.monotonic())
            account = whole_account(self._graph, self._plan, duration_s, aborted=self.aborting)
        except BaseException as error:  # a fault of penstock itself: there is a report all the same, and it is not ok
            self.trouble(f"the account could not be made: {text_of(error)}", error)
        self.report = RunReport(
            name=self.name,
            account=account,
            errors=tuple(self._errors),
            aborted=self.aborting,
            checkpoints=self.checkpoints.done,
            dead_letters=str(self.dead_letters.path) if self.dead_letters.count else "",
            started_ns=self._started_ns,
            duration_s=duration_s,
        )
        self._tell("penstock_run_finished", name=self.name, report=self.report)
        if self.is_told:
            tell_problems(self.report)
        at_exit.forget(self)
        self._finished.set()

    def _checkpointed(self, positions: Mapping[str, Any]) -> None:
        self._tell("penstock_checkpoint", name=self.name, positions=positions)
        self._wake.set()

    def _tell(self, hook: str, **facts: Any) -> None:
        """Call a watcher hook; its errors are logged and stop nothing."""
        call: Callable[..., Any] = getattr(self.plugins.hook, hook)
        try:
            call(**facts)
        except BaseException as error:  # a watcher may raise anything, even leave the process: it must not stop a run
            _log.error("a plugin's %s failed\n%s", hook, trace_of(error))

    def _source(self, source: str | Node) -> SourceLane:
        name = self._graph.name_of(source)
        if name not in self._plan.sources:
            raise RunError(f"node {name!r} is no source of run {self.name!r}; sources: {', '.join(self._plan.sources)}")
        return self._plan.sources[name]
