"""The contract of a source, and the abilities that one may have beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from penstock.record import Record

Position = Any
"""Where a source stands, as plain data (int, str, tuples, dicts of these): what `commit` takes and a store may keep."""


@runtime_checkable
class Source(Protocol):
    """Give records to a run.

    An attrs class whose init fields are its settings; building one does nothing. A run calls `open`, then `read` from
    one thread until it ends, then `close`. If `read` raises, the same object is closed and opened again, by its
    policy, and asked to go on where it was (`SupportsSeek`).

    The memory of what it gives stays as it is, or the source has one of two class attributes or settings:
    `reuses_buffers = True` says that it fills the same memory again, and has the run copy each record;
    `stays_valid = True` promises that it does not. Without either, the first records are copied while the run learns
    whether memory comes back (see `penstock.buffers`).

    The run looks at the fields of each record, and converts or refuses odd ones. A class attribute
    `exact_fields = True` promises that each has just the type that `Record` says, and has the run believe it;
    `SourceContract` checks that.
    """

    gives: ClassVar[str] = "any"
    """What its records carry as data: "bytes", "array", "mapping" or "any"."""

    def open(self) -> None:
        """Take hold of the outside. Raises SourceError or OSError; what was taken by then is let go again."""
        ...

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return up to `max_records` records in order, or an empty sequence if none came within `timeout_s` seconds.

        It returns as soon as it has something and would have to wait for more. While it is not called, the source
        must not collect without bound: it lets the sender wait, or counts what it drops (`SupportsLoss`).

        Raises:
            EndOfSource: nothing will ever come again. Not before all records have been returned.
            SourceError: it cannot go on; the run closes it and, by its policy, opens it again.
        """
        ...

    def close(self) -> None:
        """Let go of the outside. Any number of times, also after an `open` that failed; never raises for that."""
        ...


@runtime_checkable
class SupportsCommit(Protocol):
    """A source that can be asked again for what was not committed (files, Kafka)."""

    def position(self) -> Position:
        """Return where it stands: after the last record that `read` returned."""
        ...

    def commit(self, position: Position) -> None:
        """Forget everything before `position`: it is durable downstream. Called from the thread that reads."""
        ...


@runtime_checkable
class SupportsSeek(Protocol):
    """A source that can start from a position that somebody else kept (a transactional store)."""

    def seek(self, position: Position) -> None:
        """Go on from `position`, which `position` returned in an earlier run. Called after `open`, before `read`."""
        ...


@runtime_checkable
class SupportsLoss(Protocol):
    """A source that can see what was lost before it."""

    def lost_upstream(self) -> Mapping[str, int]:
        """Return how many records each channel lost before they arrived, counted since `open`; any thread."""
        ...


@runtime_checkable
class SupportsDrop(Protocol):
    """A source that is set to leave records out (only the newest matter), and counts them. No fault, and not lost."""

    def dropped_upstream(self) -> Mapping[str, int]:
        """Return how many records of each channel were left out before they came, counted since `open`; any thread."""
        ...


@runtime_checkable
class SupportsRejected(Protocol):
    """A source to which a network may bring what is no record."""

    def rejected(self) -> int:
        """Return how many messages were refused since `open`, because nothing could be made of them; any thread."""
        ...


@runtime_checkable
class SupportsRefusal(Protocol):
    """A source that can name what it could make nothing of: the run dead-letters it, or does what `on_error` says."""

    def take_refused(self) -> Sequence[tuple[Record, BaseException]]:
        """Return what came since the last call and is of no use, each with the reason. Called after each `read`."""
        ...


@runtime_checkable
class SupportsDurable(Protocol):
    """A source that cannot be asked again, but wants to know how far what it gave is safe."""

    def mark(self) -> Position:
        """Return what stands for the last record that `read` gave, as plain data."""
        ...

    def durable(self, position: Position) -> None:
        """Be told that everything up to this mark is durable downstream, or dead-lettered; by the thread that reads."""
        ...


@runtime_checkable
class SupportsLag(Protocol):
    """A source that knows how far it is behind."""

    def lag(self) -> int:
        """Return how many records wait at the sender for this source; 0 if it keeps up; any thread."""
        ...


@runtime_checkable
class SupportsRemark(Protocol):
    """A source that sees what its user hardly meant, though nothing failed."""

    def remark(self) -> str:
        """Return one sentence for the report, "" if there is nothing to say; any thread, also after `close`."""
        ...


@runtime_checkable
class SupportsWake(Protocol):
    """A source whose `read` can be interrupted: while it is idle, a run asks it twice a second instead of ten times."""

    def wake(self) -> None:
        """Let the `read` that waits, or else the next one, return at once with what there is; any thread."""
        ...


@runtime_checkable
class SupportsEndSoon(Protocol):
    """A source that holds records for which this process is answerable: a run that drains empties it.

    It counts them in `lag`, and, when it is closed, as lost upstream. An aborted run calls `close` from another thread
    if a `read` or what comes behind does not return.
    """

    def end_soon(self) -> None:
        """Take in nothing more; `read` gives what is inside, then raises EndOfSource. Until `open`; any thread."""
        ...


@runtime_checkable
class SupportsSourceLink(Protocol):
    """A source class that can be the far end of a link from another process."""

    @classmethod
    def for_link(cls, name: str) -> Source:
        """Return the source of what the store `for_link` of this name writes from `open` on.

        It raises EndOfSource when that store has closed, and SourceError when its process has died instead; both
        after the last record.
        """
        ...
