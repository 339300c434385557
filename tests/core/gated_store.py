"""A store for tests of handlers that writes only while its gate is open, and fails on demand."""

from __future__ import annotations

import threading

import attrs

from penstock.builtin.memory import MemoryStore
from penstock.errors import StoreError

LONG_S = 30.0


@attrs.define(kw_only=True)
class Gated(MemoryStore):
    """A memory store that writes only while its gate is open, and fails on demand."""

    gate: threading.Event = attrs.field(factory=threading.Event)
    came: threading.Event = attrs.field(factory=threading.Event)
    fail: list = attrs.field(factory=list)
    poison: object = lambda record: False
    calls: int = 0

    def write(self, records):
        self.came.set()
        assert self.gate.wait(LONG_S)
        self.calls += 1
        if self.fail:
            raise self.fail.pop(0)
        good = [record for record in records if not self.poison(record)]
        super().write(good)
        if len(good) < len(records):
            bad = [(record, ValueError("poison")) for record in records if self.poison(record)]
            raise StoreError("some were not written", failed=bad)


def gated(**settings) -> Gated:
    return Gated(key="{{ coords.t }}", **settings)


def opened(**settings) -> Gated:
    store = gated(**settings)
    store.gate.set()
    return store
