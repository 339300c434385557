"""The contract of a decoder: packets of one channel in, what they hold out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final, Protocol, runtime_checkable

from penstock.record import Record

CHANNEL_ENDS: Final = "channel_ends"
"""Key in the metadata of a record after which its channel is over: a run flushes and closes the decoder of it."""


def end_of_channel(channel: str, *, seq: int, time_ns: int = 0) -> Record:
    """Return a record without data that ends a channel; should it come again, it begins with a new decoder.

    A sender may as well put `channel_ends: True` into the metadata of the last record that holds something.
    """
    return Record(None, channel=channel, seq=seq, time_ns=time_ns, metadata={CHANNEL_ENDS: True})


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


@runtime_checkable
class SupportsRest(Protocol):
    """A decoder that can give up threads and memory while its channel is idle.

    A run calls `rest` when no record came for `idle_rest_s` seconds, and flushes and closes any decoder whose channel
    had none for `idle_close_s`; attributes or settings of the decoder, off if absent or None.
    """

    def rest(self) -> None:
        """Give up what can be had again, but no state: the next record is decoded as if this had not been."""
        ...


@runtime_checkable
class SupportsSkipped(Protocol):
    """A decoder that leaves packets out (up to the next keyframe) and counts them; a run counts these as discarded."""

    skipped: int
