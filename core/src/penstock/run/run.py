"""Run: a pipeline at work, from the moment when everything is open until the report."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from penstock.arguments import checks_arguments, checks_arguments_besides
from penstock.compose.graph import PipelineGraph
from penstock.compose.node import Joinable, Node
from penstock.errors import RunError, WiringError
from penstock.report.account import Account
from penstock.report.run_report import RunReport
from penstock.run import at_exit
from penstock.run.draining import Block
from penstock.run.engine import Engine
from penstock.run.lanes.source_lane import SourceLane
from penstock.run.plan.changes import add, remove, replace
from penstock.run.supervisor import Supervisor
from penstock.short_text import short
from penstock.validators import check_argument, not_negative, or_none

if TYPE_CHECKING:
    from penstock.plugins import Plugins

_log = logging.getLogger("penstock.run")
_log.addHandler(logging.NullHandler())  # users who want the log configure it; the essentials are in the report

ABORT_GRACE_S: Final = 5.0
"""Seconds that an abort waits for the lanes to end; a component that blocks for longer is named and left behind."""
WATCH_EVERY_S: Final = 1.0


class Run:
    """A pipeline at work. Made by `Pipeline.start`; use it in a `with` statement, which drains it.

    All methods may be called from any thread. The state that its threads share is in `penstock.run.engine`.

    Attributes:
        name: The name of its pipeline.
    """

    @checks_arguments
    def __init__(self, pipeline: PipelineGraph, plugins: Plugins) -> None:
        if not callable(getattr(pipeline, "parts", None)):
            raise WiringError(f"pipeline={short(pipeline)}: must be a Pipeline(...), whose start() makes a Run")
        self.name = pipeline.name
        self._engine = Engine(pipeline, plugins, handle=self)
        self._plan, self._graph = self._engine.plan, self._engine.graph
        self._wake, self._finished = self._engine.wake, self._engine.over
        self._block = Block(self._engine)
        self._supervisor = Supervisor(self._engine, abort_grace_s=ABORT_GRACE_S, watch_every_s=WATCH_EVERY_S)

    @classmethod
    def start(cls, pipeline: PipelineGraph, *, plugins: Plugins, made: Callable[[Engine], None] | None = None) -> Run:
        """Check and plan a pipeline, open everything, and start it.

        `made` is called with the engine before anything opens.

        Raises:
            WiringError, ConfigError, PluginError: before anything opens.
            RunError: a component could not be opened; all others have been closed.
        """
        run = cls(pipeline, plugins)
        engine = run._engine
        if made is not None:
            made(engine)
        parts = pipeline.parts(plugins)
        try:
            add(engine, engine.graph, engine.plan, [pipeline.flow()], parts)
        except BaseException:
            engine.aborting = True
            engine.dead_letters.close()
            raise
        engine.graph.names.update(pipeline.names)
        roles = {name: part.node.role for name, part in parts.items()}
        engine.tell("penstock_run_started", name=engine.name, nodes=roles)
        at_exit.watch_over(engine)
        run._supervisor.start()
        return run

    @property
    def report(self) -> RunReport | None:
        """The report, once the run is over; None before."""
        return self._engine.report

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self._engine.finished

    @checks_arguments_besides("timeout_s")
    def wait(self, timeout_s: float | None = None) -> RunReport | None:
        """Wait until the run is over and return its report; None if it is not over within `timeout_s` seconds.

        Raises RunError if a thread of the run would wait for itself for ever.
        """
        timeout_s = check_argument("timeout_s", timeout_s, or_none(not_negative))
        if not self.finished:
            self._block.must_be_here()
            if timeout_s is None:
                self._must_not_wait("stop_soon() or abort()")
        report = self._engine.wait(timeout_s)
        if report is not None and threading.current_thread() is not self._supervisor.thread:
            self._supervisor.thread.join()  # it ends right after it has made the report
            at_exit.release()
        return report

    @checks_arguments
    def stop(self, *, drain: bool = True) -> RunReport:
        """End the run and return its report. Components and watchers of the run call `stop_soon` or `abort` instead.

        Args:
            drain: Wait until all records in flight have reached the stores and are synced, then commit the sources.
                If False, the records in flight are lost, and counted as lost.

        Raises:
            RunError: called by a thread of the run, which would wait for itself.
        """
        self._must_not_wait("stop_soon() or abort()")
        if drain:
            self.stop_soon()
        else:
            self.abort()
        report = self.wait()
        assert report is not None  # wait() without a timeout returns a report
        return report

    def stop_soon(self) -> None:
        """Ask the sources to end; returns at once. The run drains, then ends."""
        self._engine.stop_soon()

    def abort(self) -> None:
        """End without draining; returns at once."""
        self._engine.abort()

    @checks_arguments
    def pause(self, source: str | Node) -> None:
        """Stop reading this source until `resume`; earlier records are processed. Raises RunError if not a source."""
        self._source(source).paused = True

    @checks_arguments
    def resume(self, source: str | Node) -> None:
        """Read this source again. Raises RunError if it is not a source."""
        lane = self._source(source)
        lane.last_record = time.monotonic()  # a source that was not read is not silent
        lane.paused = False
        lane.post("resume")

    @checks_arguments
    def node(self, name: str) -> Node:
        """Return a node of the run, to join others to it with `>>` for `add`. Raises RunError if there is none."""
        return self._graph.nodes[self._graph.name_of(name)]

    def node_names(self) -> list[str]:
        """Return the names of all running nodes."""
        return list(self._graph.nodes)

    def add(self, *flows: Joinable) -> list[str]:
        """Add nodes while the run is at work, and return their names; nothing else is interrupted.

        A flow may contain nodes that already run: the same objects, or the result of `node`. The new nodes are opened
        first, all or none; then records flow through them.

        Raises:
            WiringError, ConfigError, PluginError: something is wrong with the new nodes.
            RunError: they cannot be opened or joined, or the run is over.
        """
        with self._engine.turns:
            names = add(self._engine, self._graph, self._plan, flows)
            self._engine.emptied = False
            return names

    @checks_arguments
    def remove(self, *nodes: str | Node) -> None:
        """Remove nodes, with the decoders and processors that only they feed; stores only if they are named.

        Drains them: returns when all their records have been passed on, stored and committed. The run continues,
        even without any source, until it is stopped or the last source reaches its end. A component of the run must
        not call this from its own thread.

        Raises:
            RunError: there is no such node, it is fused with one that stays, one that stays would no longer have a
                consumer (its records would go nowhere), a thread of the run called this, or the run is over. Then
                nothing has changed.
        """
        self._must_not_wait("another thread, or a control channel", helpers=True)
        with self._engine.turns:
            before = self._engine.emptied
            self._engine.emptied = True  # the run must not end while its last source leaves
            try:
                remove(self._engine, self._graph, self._plan, nodes)
                before = not self._plan.sources
            finally:
                self._engine.emptied = before
                self._wake.set()

    @checks_arguments
    def replace(self, node: str | Node, new: Node) -> None:
        """Replace a component with another of the same role; records inside the old one are passed on first.

        The counters continue. A new source begins at its own start; records of the old one are still committed there.

        Raises:
            WiringError, ConfigError, PluginError: something is wrong with the new one.
            RunError: it cannot be opened (the old one stays at work), a thread of the run called this, or the run is
                over.
        """
        self._must_not_wait("another thread, or a control channel", helpers=True)
        with self._engine.turns:
            replace(self._engine, self._graph, self._plan, node, new)

    def _must_not_wait(self, instead: str, *, helpers: bool = False) -> None:
        waits = self._engine.turns.is_helper and not helpers
        if waits or self._engine.in_lane() or threading.current_thread() is self._supervisor.thread:
            raise RunError(f"a thread of run {self.name!r} would wait for itself: use {instead}")

    def sources(self) -> dict[str, Any]:
        """Return the source components, by the names of their nodes."""
        return self._engine.sources()

    def stats(self) -> Account:
        """Return the account of the run so far."""
        return self._engine.stats()

    def __enter__(self) -> Run:
        self._block.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._must_not_wait("stop_soon() or abort()")
        try:
            self._block.leave(error)
        finally:
            at_exit.release()

    def __repr__(self) -> str:
        report = self.report
        if report is not None:
            return f"Run({self.name!r}: over, {'ok' if report.ok else 'NOT OK'})"
        return f"Run({self.name!r}: at work, {', '.join(self._graph.nodes)})"

    def _source(self, source: str | Node) -> SourceLane:
        if self.finished:
            raise RunError(f"run {self.name!r} is over")
        name = self._graph.name_of(source)
        if name not in self._plan.sources:
            raise RunError(f"node {name!r} is not a source of {self.name!r}; sources: {', '.join(self._plan.sources)}")
        return self._plan.sources[name]


def acts_for(run: Run, component: Any) -> None:
    """Note that the current thread belongs to a component of a run: it may change the run, but not wait for itself."""
    run._engine.turns.act_for(component)
