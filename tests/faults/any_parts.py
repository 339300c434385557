"""Components that raise an error of any kind in any of their calls; processes import them from here."""

from __future__ import annotations

import attrs

from penstock.errors import EndOfSource
from penstock.record import Record
from penstock.testing.any_errors import ANY_ERROR

COUNT = 8
BAD = 3
"""The record over which a call for a record fails."""


@attrs.define(kw_only=True, slots=False)
class Faulty:
    """Raise an error of this kind in the call of this name."""

    call: str = ""
    kind: str = ""

    def may_fail(self, call):
        if call == self.call:
            raise ANY_ERROR[self.kind]()

    def open(self):
        self.may_fail("open")

    def close(self):
        self.may_fail("close")


@attrs.define(kw_only=True, slots=False)
class Source(Faulty):
    """Numbers with everything that a source can have."""

    def open(self):
        self.next = 0
        self.may_fail("open")

    def read(self, max_records, timeout_s):
        if self.next >= COUNT:
            self.may_fail("read")
            raise EndOfSource("done")
        self.next += 1
        return [Record(self.next - 1, seq=self.next - 1)]

    def position(self):
        self.may_fail("position")
        return self.next

    def commit(self, position):
        self.may_fail("commit")

    def lag(self):
        self.may_fail("lag")
        return 0

    def lost_upstream(self):
        self.may_fail("lost_upstream")
        return {}

    def dropped_upstream(self):
        self.may_fail("dropped_upstream")
        return {}

    def rejected(self):
        self.may_fail("rejected")
        return 0


@attrs.define(kw_only=True, slots=False)
class Processor(Faulty):
    """Gives on what it takes."""

    def __call__(self, record):
        if record.data == BAD:
            self.may_fail("__call__")
            if self.call == "iterator":
                return self.iterator()
            if self.call == "list":
                return HostileList(self.kind)
        return record

    def iterator(self):
        yield Record("never")
        self.may_fail("iterator")

    def held(self):
        self.may_fail("held")
        return ()

    def flush(self):
        self.may_fail("flush")
        return ()

    def expire(self):
        self.may_fail("expire")
        return ()

    def wait_s(self):
        self.may_fail("wait_s")
        return 0.0 if self.call == "expire" else None


class HostileList(list):
    """A list that raises when somebody wants what is in it."""

    def __init__(self, kind):
        super().__init__([1, 2])
        self.kind = kind

    def __iter__(self):
        raise ANY_ERROR[self.kind]()


@attrs.define(kw_only=True, slots=False)
class Decoder(Faulty):
    """Gives on what it takes."""

    def decode(self, record):
        if record.data == BAD:
            self.may_fail("decode")
            if self.call == "iterator":
                return self.iterator()
        return [record]

    def iterator(self):
        yield Record("never")
        self.may_fail("iterator")

    def held(self):
        self.may_fail("held")
        return ()

    def flush(self):
        self.may_fail("flush")
        return ()

    def reset(self):
        self.may_fail("reset")


@attrs.define(kw_only=True, slots=False)
class Store(Faulty):
    """Keeps nothing, and refuses lists with the bad record."""

    def write(self, records):
        if any(record.data == BAD for record in records):
            self.may_fail("write")

    def sync(self):
        self.may_fail("sync")
