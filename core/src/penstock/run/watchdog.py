"""Watch: tell what full edges dropped, and who is silent or blocks for too long."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from penstock.run.edges.edge import LiveEdge
from penstock.run.plan.planning import Plan

_log = logging.getLogger("penstock.run")

LONGEST_CALL_S: Final = 30.0
"""A component that works at one list of records for so long is reported as stalled, if it has no `expect_every_s`."""


class Watch:
    """Look at a plan from time to time, and tell what is new since the last look. Used by one thread.

    Args:
        tell: Calls a watcher hook with these facts.
    """

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._dropped: WeakKeyDictionary[LiveEdge, Counter[str]] = WeakKeyDictionary()
        self._stalled: set[str] = set()

    def look(self, plan: Plan, now: float) -> None:
        """Tell the watchers what was dropped, and who is silent for too long; `now` is in monotonic seconds."""
        for live in list(plan.edges.values()):
            for edge in live:
                self._tell_dropped(edge)
                self._check(edge.name, edge.settings.expect_every_s, now - edge.last_put)
        for name, source in list(plan.sources.items()):
            if not source.ended and not source.paused:
                self._check(name, source.resolved.node.expect_every_s, now - source.last_record)
        for lane in list(plan.lanes):
            name, since = lane.active or ("", now)
            for step in lane.steps:
                busy_s = now - since if step.name == name else 0.0
                self._check(step.name, step.resolved.node.expect_every_s or LONGEST_CALL_S, busy_s)

    def _tell_dropped(self, edge: LiveEdge) -> None:
        with edge.inbox.lock:
            dropped = Counter(edge.dropped)
        for channel, count in (dropped - self._dropped.get(edge, Counter())).items():
            self._tell("penstock_records_dropped", edge=edge.name, channel=channel, count=count)
        self._dropped[edge] = dropped

    def _check(self, name: str, expect_every_s: float | None, silent_s: float) -> None:
        if expect_every_s is None or silent_s <= expect_every_s:
            self._stalled.discard(name)
        elif name not in self._stalled:
            self._stalled.add(name)
            _log.warning("%s: nothing for %.1f s; a record is expected every %g s", name, silent_s, expect_every_s)
            self._tell("penstock_stalled", node=name, silent_s=silent_s)
