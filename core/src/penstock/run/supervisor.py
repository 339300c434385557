"""Supervisor: the thread that begins checkpoints, watches a run, and makes its report."""

from __future__ import annotations

import threading
import time
from functools import partial

from penstock.error_text import text_of
from penstock.report.account import Account
from penstock.report.run_report import RunReport
from penstock.run import at_exit
from penstock.run.engine import Engine
from penstock.run.lanes.inbox_lane import close_inboxes
from penstock.run.lanes.lane import Lane
from penstock.run.lanes.source_lane import SourceLane
from penstock.run.plan.changes import whole_account
from penstock.run.telling import tell_problems
from penstock.run.watchdog import Watch


class Supervisor:
    """Supervise a run and make its report in any case: other threads wait for it.

    Args:
        engine: The shared state of the run's threads.
        abort_grace_s: Seconds that an abort waits for the lanes to end; lanes that do not are abandoned.
        watch_every_s: Seconds between two checks for silent nodes and dropped records.

    Attributes:
        thread: The supervisor's thread.
    """

    def __init__(self, engine: Engine, *, abort_grace_s: float, watch_every_s: float) -> None:
        self._abort_grace_s = abort_grace_s
        self._watch_every_s = watch_every_s
        self._engine = engine
        self._watch = Watch(partial(engine.tell, name=engine.name))
        self.thread = threading.Thread(target=self._supervise, name=f"penstock {engine.name}: supervisor", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def _supervise(self) -> None:
        engine = self._engine
        try:
            self._lead()
        except BaseException as error:  # a bug in penstock: the run must end and report it, not hang
            engine.trouble(f"supervisor: {text_of(error)}", error)
            engine.abort()
        try:
            self._finish()
        finally:
            engine.over.set()

    def _lead(self) -> None:
        """Begin checkpoints and watch, until nothing is left to do."""
        engine = self._engine
        next_checkpoint = time.monotonic() + engine.checkpoint_every_s
        next_watch = time.monotonic() + self._watch_every_s
        abandon_at: float | None = None
        while True:
            now = time.monotonic()
            engine.wake.wait(max(0.0, min(next_checkpoint, next_watch) - now))
            engine.wake.clear()
            now = time.monotonic()
            live = engine.alive()
            if not live and (engine.no_more or engine.aborting or not engine.emptied):
                break
            if engine.aborting:
                abandon_at = abandon_at or now + self._abort_grace_s
                next_checkpoint = next_watch = now + 0.1
                if now >= abandon_at:
                    self._abandon(live)
                    break
                continue
            reading = any(isinstance(lane, SourceLane) and not lane.ended for lane in live)
            if engine.no_more or not (reading or engine.emptied):
                close_inboxes(live)
            if all(isinstance(lane, SourceLane) and lane.ended for lane in live) and not engine.emptied:
                self._last_checkpoint(live)
                next_checkpoint = now + 0.05
            elif engine.checkpoint_wanted:
                engine.checkpoint_wanted = not engine.checkpoints.begin() and not engine.checkpoints.poisoned
                next_checkpoint = now + (0.02 if engine.checkpoint_wanted else engine.checkpoint_every_s)
            elif now >= next_checkpoint:
                engine.checkpoints.begin()
                next_checkpoint = now + engine.checkpoint_every_s
            if now >= next_watch:
                self._watch.look(engine.plan, now)
                next_watch = now + self._watch_every_s

    def _last_checkpoint(self, live: set[Lane]) -> None:
        if self._engine.checkpoints.poisoned:
            for lane in live:
                if isinstance(lane, SourceLane):
                    lane.post("close")
        else:
            self._engine.checkpoints.begin()

    def _abandon(self, live: set[Lane]) -> None:
        for lane in live:
            lane.abandon()
            active = lane.active
            node, since = active if active else (lane.name, None)
            blocking = (
                "is still at work" if since is None else f"has been blocking for {time.monotonic() - since:.0f} s"
            )
            self._engine.errors.append(
                f"node {node!r} {blocking}: it did not return within {self._abort_grace_s:.0f} s when the run was "
                "aborted; its thread is abandoned"
            )

    def _finish(self) -> None:
        engine = self._engine
        live = engine.alive()
        for lane in engine.plan.lanes:
            if lane not in live:
                lane.thread.join()
        try:
            engine.dead_letters.close()
        except OSError as error:
            engine.trouble(f"the dead letters could not be closed: {error}", error)
        engine.claims.drop_all(but={name for lane in engine.alive() for name in lane.node_names()})
        duration_s = time.monotonic() - engine.started
        account = Account(nodes=[], edges=[], elapsed_s=duration_s)
        try:
            self._watch.look(engine.plan, time.monotonic())
            account = whole_account(engine.graph, engine.plan, duration_s, aborted=engine.aborting)
        except BaseException as error:  # a bug in penstock: there is still a report, and it is not ok
            engine.trouble(f"the account could not be made: {text_of(error)}", error)
        engine.report = RunReport(
            name=engine.name,
            account=account,
            errors=tuple(engine.errors),
            aborted=engine.aborting,
            checkpoints=engine.checkpoints.done,
            dead_letters=str(engine.dead_letters.path) if engine.dead_letters.count else "",
            started_ns=engine.started_ns,
            duration_s=duration_s,
        )
        engine.tell("penstock_run_finished", name=engine.name, report=engine.report)
        if engine.logs_problems:
            tell_problems(engine.report)
        at_exit.forget(engine)
        engine.over.set()
