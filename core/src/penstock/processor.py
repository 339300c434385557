"""The contract of a processor: any callable, and its optional abilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from penstock.record import Record

Processor = Callable[["Record"], "Record | Iterable[Record] | None"]
"""Take one record; return one, several, or None to discard it or keep it for later.

A callable that accepts three arguments, and not one, is called with `(coords, data, metadata)` instead and returns
such a tuple, a list of them, or None. One that accepts the record may return a record, a value (the `data` of a record
like its parent), such a tuple, or a list or iterator of these; three mappings are three records only in a list.
A function is used as it is; a class is an attrs class with `__call__`, whose init fields are its settings. `takes` and
`gives` ("bytes", "array", "mapping", "any") are class attributes, both "any" if absent; `in_place = True` means that
the processor changes its array, and receives a copy of an array that others hold as well.

A single result of a record keeps its channel and seq, unless the processor sets others; several in one channel are
numbered as its parts, whatever seq they have (`penstock.identity`). `own_identity = True` means that the processor
numbers all its results itself: the numbers must be unique, and the same when the same records come again, so a counter
cannot be used.
"""


@runtime_checkable
class SupportsLifecycle(Protocol):
    """A processor or decoder that uses an external resource."""

    def open(self) -> None:
        """Acquire the resource; called once, before the first record, in the thread that will call the processor."""
        ...

    def close(self) -> None:
        """Release the resource. May be called repeatedly."""
        ...


@runtime_checkable
class SupportsRun(Protocol):
    """A processor that acts on its run (a control channel)."""

    def bind(self, run: Any) -> None:
        """Receive the `Run`; called before `open`."""
        ...


@runtime_checkable
class SupportsFlush(Protocol):
    """A processor that keeps records for later."""

    def flush(self) -> Iterable[Record]:
        """Return the buffered records; called at the end, after the last record."""
        ...


@runtime_checkable
class SupportsHeld(Protocol):
    """A processor or decoder that keeps records and can name them, so that no checkpoint overtakes them.

    Without it, a record for which None was returned counts as discarded, and the source may forget it.
    """

    def held(self) -> Iterable[Record]:
        """Return the records received that a restart would need again: those whose result is not emitted yet."""
        ...


@runtime_checkable
class SupportsDiscarded(Protocol):
    """A processor that keeps records and discards some of them later, and counts these by channel.

    A run counts them as discarded. Without it, they stay in the account as buffered.
    """

    discarded: Mapping[str, int]


@runtime_checkable
class SupportsDeadline(Protocol):
    """A processor that must act after some time even if no record comes (a batch with a timeout)."""

    def wait_s(self) -> float | None:
        """Return the seconds until `expire` must be called; None if it need not be."""
        ...

    def expire(self) -> Iterable[Record]:
        """Return the results due now; called from the thread that calls the processor."""
        ...
