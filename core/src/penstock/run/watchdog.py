"""Watch: reports records that full edges dropped, and nodes that are silent or block for too long."""

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
"""Seconds that a component may work on one list of records before it is reported as stalled, without
`expect_every_s`."""


class Watch:
    """Check a plan periodically, and report changes since the last check. Used by one thread.

    Args:
        tell: Calls a watcher hook with these keyword arguments.
    """

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._dropped: WeakKeyDictionary[LiveEdge, Counter[str]] = WeakKeyDictionary()
        self._stalled: set[str] = set()

    def look(self, plan: Plan, now: float) -> None:
        """Report dropped records and silent nodes to the watchers; `now` is in monotonic seconds."""
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
