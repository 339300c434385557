"""The contract of a source, and its optional abilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from penstock.record import Record

Position = Any
"""A source's progress, as plain data (int, str, tuples, dicts of these): `commit` receives it, a store may keep it."""


@runtime_checkable
class Source(Protocol):
    """Read records for a run.

    An attrs class whose init fields are its settings; building one does nothing. A run calls `open`, then `read` from
    one thread until it ends, then `close`. If `read` raises, the same object is closed and reopened, as often as its
    `retry`, and continues at its last position (`SupportsSeek`).

    A class attribute or setting declares what happens to the memory of its records: with `reuses_buffers = True` the
    source reuses it, so that the run copies each record; with `stays_valid = True` it never does. Without either, the
    first records are copied while the run determines whether memory is reused (see `penstock.buffers`).

    The run checks the fields of each record, and converts or refuses invalid ones. The class attribute
    `exact_fields = True` promises that each field has exactly the type that `Record` declares, so that the run need
    not check them; `SourceContract` tests that promise.
    """

    gives: ClassVar[str] = "any"
    """The kind of data of its records: "bytes", "array", "mapping" or "any"."""

    def open(self) -> None:
        """Acquire external resources. Raises SourceError or OSError, and then holds none."""
        ...

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return up to `max_records` records in order, or an empty sequence if none arrived within `timeout_s` seconds.

        It returns as soon as it has records and would have to wait for more. While it is not called, the source
        must not collect without bound: it makes the sender wait, or counts what it drops (`SupportsLoss`).

        Raises:
            EndOfSource: no more records will come. Raised after all have been returned.
            SourceError: it cannot continue; the run closes it and, as `retry` says, reopens it.
        """
        ...

    def close(self) -> None:
        """Release external resources. May be called repeatedly, and after a failed `open`, without an error."""
        ...


@runtime_checkable
class SupportsCommit(Protocol):
    """A source that can repeat records that were not committed (files, Kafka)."""

    def position(self) -> Position:
        """Return its position: after the last record that `read` returned."""
        ...

    def commit(self, position: Position) -> None:
        """Mark everything before `position` as done: it is durable downstream. Called from the thread that reads."""
        ...


@runtime_checkable
class SupportsSeek(Protocol):
    """A source that can start from a position kept elsewhere (a transactional store)."""

    def seek(self, position: Position) -> None:
        """Continue from `position`, which `position` returned in an earlier run. Called after `open`, before `read`."""
        ...


@runtime_checkable
class SupportsKeep(Protocol):
    """A source whose positions become invalid when its data are replaced, such as a topic that is recreated."""

    def to_keep(self, position: Position) -> Position:
        """Return a position with the facts from which `seek`, in a later run, determines whether it still applies.

        Called before a checkpoint, by the thread that reads. `commit` and `seek` take either form.
        """
        ...


@runtime_checkable
class SupportsLoss(Protocol):
    """A source that can detect records lost before it."""

    def lost_upstream(self) -> Mapping[str, int]:
        """Return how many records each channel lost before they arrived, counted since `open`; any thread."""
        ...


@runtime_checkable
class SupportsDrop(Protocol):
    """A source configured to skip records (only the newest matter), which counts them. Not an error, and not lost."""

    def dropped_upstream(self) -> Mapping[str, int]:
        """Return how many records of each channel were skipped before they arrived, since `open`; any thread."""
        ...


@runtime_checkable
class SupportsRejected(Protocol):
    """A source that may receive messages which are not records."""

    def rejected(self) -> int:
        """Return how many messages were refused since `open` because they were not records; any thread."""
        ...


@runtime_checkable
class SupportsRefusal(Protocol):
    """A source that reports invalid messages: the run dead-letters them, or treats them as `on_error` says."""

    def take_refused(self) -> Sequence[tuple[Record, BaseException]]:
        """Return the invalid messages since the last call, each with the reason. Called after each `read`."""
        ...


@runtime_checkable
class SupportsDurable(Protocol):
    """A source that cannot repeat records, but needs to know which of them are durable."""

    def mark(self) -> Position:
        """Return a mark of the last record that `read` returned, as plain data."""
        ...

    def durable(self, position: Position) -> None:
        """Called when everything up to this mark is durable downstream, or dead-lettered; by the thread that reads."""
        ...


@runtime_checkable
class SupportsGivenUp(Protocol):
    """A source that needs to know which of its records were not stored; see `SupportsDurable` for the others."""

    def given_up(self, channel: str) -> None:
        """Called when a later node gave up a record of this channel: dead-lettered, skipped or lost; any thread.

        It is called once for each record, however many nodes give it up: two stores that dead-letter one record make
        two dead letters, and one record that was not stored everywhere. It comes before the `durable` whose
        position covers the record. Several sources may have the same channel: all of them are called.
        """
        ...


@runtime_checkable
class SupportsLag(Protocol):
    """A source that knows how many records it is behind."""

    def lag(self) -> int:
        """Return how many records wait at the sender for this source; 0 if it keeps up; any thread."""
        ...


@runtime_checkable
class SupportsLagSeconds(Protocol):
    """A source that knows by how much time it is behind."""

    def lag_s(self) -> float:
        """Return the age in seconds of the last returned record if others wait behind it, else 0; any thread."""
        ...


@runtime_checkable
class SupportsWake(Protocol):
    """A source whose `read` can be interrupted: while it is idle, a run asks it twice a second instead of ten times."""

    def wake(self) -> None:
        """Make the waiting `read`, or else the next one, return at once with the available records; any thread."""
        ...


@runtime_checkable
class SupportsEndSoon(Protocol):
    """A source that holds records owned by this process: a run that drains empties it.

    It counts them in `lag`, and, when it is closed, as lost upstream. An aborted run calls `close` from another thread
    if a `read` or a later step does not return.
    """

    def end_soon(self) -> None:
        """Accept no more; `read` returns the held records, then raises EndOfSource. Valid until `open`; any thread."""
        ...


@runtime_checkable
class SupportsSourceLink(Protocol):
    """A source class that can be the far end of a link from another process."""

    @classmethod
    def for_link(cls, name: str) -> Source:
        """Return the source of the records that the store `for_link` of this name writes from `open` on.

        It raises EndOfSource when that store has closed, and SourceError when its process has died instead; both
        after the last record.
        """
        ...
