"""Record: one piece of data with its origin and time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.coords import DataCoordinates
from penstock.coords.coordinates import freeze
from penstock.short_text import short

_NOWHERE = DataCoordinates()
freeze(_NOWHERE)


class _Payload(msgspec.Struct, frozen=True, eq=False):
    data: Any


class Record(_Payload, frozen=True, eq=False, kw_only=True):
    """One piece of data with its origin. Frozen: `replace(data=…, seq=…)` returns a changed copy.

    A struct of msgspec rather than an attrs class: one is made for every record of a run, and a frozen attrs
    class takes five times as long to make (see docs/decisions/0002-record-is-a-struct.md).
    Two records are equal only if they are the same object, since their data may be arrays.

    Attributes:
        data: Anything; mostly `bytes` (a packet) or a numpy array. It belongs to the holder of the record, unless
            it arrives read-only: then it is shared.
        channel: Its origin (a camera, a topic, a HERO). Order is kept within a channel.
        seq: Number within the channel, counted from 0.
        time_ns: Time of the event, in nanoseconds since 1970-01-01 UTC: from the sender if it has one, else on
            arrival.
        coords: Its coordinates; empty if the source knows none.
        metadata: The sender's metadata. Not trusted: it may come from a network.
        parent: The record that this one was decoded from, or None.
        discontinuity: True if it does not continue the record before it in its channel (a seek, a reconnect, a
            drop upstream); the run then resets the decoder of the channel.
    """

    channel: str = ""
    seq: int = 0
    time_ns: int = 0
    coords: DataCoordinates = _NOWHERE
    metadata: Mapping[str, Any] = {}  # msgspec gives each record a dict of its own
    parent: Record | None = None
    discontinuity: bool = False

    def __post_init__(self) -> None:
        coords = self.coords
        if coords is not _NOWHERE and type(coords) is DataCoordinates and coords._hash is None:
            freeze(coords)

    def __repr__(self) -> str:
        parts = [f"data={short(self.data)}", f"channel={short(self.channel)}", f"seq={short(self.seq)}"]
        parts += [f"time_ns={short(self.time_ns)}"] if self.time_ns != 0 else []
        parts += [f"coords={short(self.coords)}"] if self.coords is not _NOWHERE else []
        if type(self.metadata) is not dict or self.metadata:
            parts.append(f"metadata={short(self.metadata)}")
        parts += ["parent=…"] if self.parent is not None else []
        parts += ["discontinuity=True"] if self.discontinuity is True else []
        return f"Record({', '.join(parts)})"

    if TYPE_CHECKING:

        def replace(self, **changes: Any) -> Record:
            """Return a copy of this record with these fields changed; the rest is shared, not copied."""
    else:  # called by itself it takes a third of the time of a method around it
        replace = msgspec.Struct.__replace__

    def with_metadata(self, items: Mapping[str, Any] | None = None, /, **more: Any) -> Record:
        """Return a copy of this record with these metadata added; existing keys are replaced.

        `record.with_metadata(mean=3)`, or `record.with_metadata({"exposure [ms]": 5})` for a key that is not an
        identifier. The data are shared, not copied; the metadata of this record do not change.
        """
        return self.replace(metadata={**self.metadata, **(items or {}), **more})
