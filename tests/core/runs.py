"""Components for tests of runs: sources that count and can be reread, stores that fail on demand."""

from __future__ import annotations

import threading

import attrs

import penstock as ps
from penstock.errors import EndOfSource, StoreError


@attrs.define(kw_only=True)
class Numbers:
    """Return `count` numbers over `channels` channels; replay from the committed position."""

    count: int = 100
    channels: int = 1
    committed: list = attrs.field(factory=lambda: [0], eq=False)
    closed: list = attrs.field(factory=list, eq=False)
    gate: threading.Event | None = None
    _next: int = attrs.field(default=0, init=False)

    def open(self):
        self._next = self.committed[-1]

    def read(self, max_records, timeout_s):
        if self.gate is not None and self._next >= self.count:
            self.gate.wait(timeout_s)
            if not self.gate.is_set():
                return ()
        if self._next >= self.count:
            raise EndOfSource("done")
        upto = min(self.count, self._next + max_records)
        records = [
            ps.Record(number, channel=f"c{number % self.channels}", seq=number // self.channels)
            for number in range(self._next, upto)
        ]
        self._next = upto
        return records

    def position(self):
        return self._next

    def commit(self, position):
        self.committed.append(position)

    def close(self):
        self.closed.append(True)


@attrs.define(kw_only=True)
class Shelf:
    """Keep records in a list, fail at the given calls of write, and remember the synced ones."""

    blocks = True
    fail_calls: dict = attrs.field(factory=dict)
    poison: frozenset = frozenset()
    name_failed: bool = True
    log: list = attrs.field(factory=list)
    synced: list = attrs.field(factory=list)
    closed: list = attrs.field(factory=list)
    fail_sync: dict = attrs.field(factory=dict)
    before_write: object = None
    state: dict = attrs.field(factory=lambda: {"writes": 0, "syncs": 0})

    def open(self):
        pass

    def write(self, records):
        self.state["writes"] += 1
        if self.before_write is not None:
            self.before_write(records)
        error = self.fail_calls.get(self.state["writes"])
        if error is not None:
            raise error
        good = [record for record in records if record.data not in self.poison]
        bad = [(record, ValueError(f"poison {record.data}")) for record in records if record.data in self.poison]
        if bad and not self.name_failed:
            raise OSError("something is wrong")
        self.log.extend(good)
        if bad:
            raise StoreError("some were not written", failed=bad)

    def sync(self):
        self.state["syncs"] += 1
        error = self.fail_sync.get(self.state["syncs"])
        if error is not None:
            raise error
        self.synced.append(len(self.log))

    def close(self):
        self.closed.append(True)

    @property
    def data(self):
        return [record.data for record in self.log]


QUICK = ps.Retry(times=3, wait_initial_s=0.001, wait_max_s=0.002, jitter_s=0.001)
