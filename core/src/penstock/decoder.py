"""The contract of a decoder: it turns packets of one channel into records of data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final, Protocol, runtime_checkable

from penstock.record import Record

CHANNEL_ENDS: Final = "channel_ends"
"""Metadata key of the last record of a channel: a run then flushes and closes the channel's decoder."""


def end_of_channel(channel: str, *, seq: int, time_ns: int = 0) -> Record:
    """Return a record without data that ends a channel; later records of it get a new decoder.

    A sender may also put `channel_ends: True` into the metadata of the last record with data.
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
        """Return the records that this record completes: none, one or several, each with its packet as `parent`.

        The run numbers them: a single result has the seq of its packet, several are numbered as its parts
        (`penstock.identity`). A decoder with the class attribute `own_identity = True` numbers its records itself:
        the numbers must be unique, and the same when the same packets come again, so a counter cannot be used.

        Raises:
            DecodeError: this record cannot be decoded. The decoder stays usable for those that follow.
        """
        ...

    def flush(self) -> Iterable[Record]:
        """Return the buffered records, in order, and empty the decoder. Called at the end of the channel."""
        ...

    def reset(self) -> None:
        """Discard the state: the next record does not continue the last one. Buffered records are lost."""
        ...


@runtime_checkable
class SupportsRest(Protocol):
    """A decoder that can release threads and memory while its channel is idle.

    A run calls `rest` if no record arrives for `idle_rest_s` seconds, and flushes and closes any decoder whose channel
    had none for `idle_close_s`; attributes or settings of the decoder, off if absent or None.
    """

    def rest(self) -> None:
        """Release resources, but keep the state: the next record is decoded as if `rest` had not been called."""
        ...


@runtime_checkable
class SupportsSkipped(Protocol):
    """A decoder that skips packets (up to the next keyframe) and counts them; a run counts these as discarded."""

    skipped: int


@runtime_checkable
class SupportsThinned(Protocol):
    """A decoder that skips pictures as its settings define, and counts their packets."""

    thinned: int
