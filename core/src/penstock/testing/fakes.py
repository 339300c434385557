"""FakeSource: a source that a test fills, and that records its commits."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import EndOfSource
from penstock.record import Record


@checks_arguments
@attrs.define(kw_only=True)
class FakeSource:
    """A source of records that a test has made; when reopened, it continues after the committed ones.

    Attributes:
        records: The records, which are returned unchanged.
        more: True waits for further records from `put`, until `end`; False ends after the records.
        commits: The positions that were committed, each the number of records before it; pass the list to another
            source to simulate this one in a new process.
    """

    in_memory: ClassVar[bool] = True

    records: Iterable[Record] = attrs.field(default=(), converter=tuple)
    more: bool = False
    commits: list[int] = attrs.field(factory=list, eq=False, repr=False)
    _added: list[Record] = attrs.field(factory=list, init=False, eq=False, repr=False)
    _changed: threading.Condition = attrs.field(factory=threading.Condition, init=False, eq=False, repr=False)
    _has_ended: bool = attrs.field(default=False, init=False, eq=False, repr=False)
    _next: int = attrs.field(default=0, init=False, eq=False, repr=False)

    @checks_arguments
    def put(self, *records: Record) -> None:
        """Add these records. From any thread."""
        with self._changed:
            self._added.extend(records)
            self._changed.notify_all()

    def end(self) -> None:
        """End after the records that it has. From any thread."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def open(self) -> None:
        """Continue after the committed records."""
        self._next = self.commits[-1] if self.commits else 0

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the next records; see `penstock.source.Source`."""
        with self._changed:
            if self.more:
                self._changed.wait_for(lambda: self._has_ended or self._next < len(self._all()), timeout_s)
            found = self._all()[self._next : self._next + max_records]
            if not found and max_records and (self._has_ended or not self.more):
                raise EndOfSource("the fake source has no more records")
        self._next += len(found)
        return found

    def close(self) -> None:
        """Do nothing: it holds nothing."""

    def position(self) -> int:
        """Return how many records were read."""
        return self._next

    def commit(self, position: Any) -> None:
        """Note the position."""
        self.commits.append(position)

    def seek(self, position: Any) -> None:
        """Continue at a position."""
        self._next = position

    def _all(self) -> list[Record]:
        return [*self.records, *self._added]
