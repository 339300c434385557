"""The contract of a decoder: packets of one channel in, what they hold out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from penstock.record import Record


@runtime_checkable
class Decoder(Protocol):
    """Turn the records of one channel into decoded ones. A run makes one instance for each channel.

    An attrs class whose init fields are its settings; building one does nothing. It may have `open` and `close`
    (see `SupportsLifecycle` in penstock.processor); each instance is used by one thread at a time.
    """

    takes: ClassVar[str] = "any"
    gives: ClassVar[str] = "any"

    def decode(self, record: Record) -> Iterable[Record]:
        """Return what this record completes: none, one or several records, each with its packet as `parent`.

        The run numbers them: the only one of a packet has its seq, several are numbered as its parts
        (`penstock.identity`). A decoder whose class says `own_identity = True` numbers its records itself: no two
        alike, and the same when the same packets come again, so not by a counter.

        Raises:
            DecodeError: this record cannot be decoded. The decoder stays usable for those that follow.
        """
        ...

    def flush(self) -> Iterable[Record]:
        """Return what is still inside, in order; afterwards nothing is. Called at the end of the channel."""
        ...

    def reset(self) -> None:
        """Forget the state: the record that follows does not continue the last one. What was inside is lost."""
        ...
