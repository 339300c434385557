"""The items that travel on the edges of a run: lists of records, barriers, and the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
import msgspec

from penstock.record import Record

MOST_AT_ONCE: Final = 1024
"""The most records that a lane takes at once, so that it notices requests soon enough."""


@attrs.frozen
class Barrier:
    """A mark that follows the records through every lane: the records before it belong to checkpoint `number`."""

    number: int


@attrs.frozen
class End:
    """The mark after the last record of an edge."""


END: Final = End()


class Chunk(msgspec.Struct, eq=False):
    """Records that travel together. A list that is referenced outside the edge is never changed.

    Attributes:
        received_ns: When the source returned them (monotonic clock, ns).
        records: At least one, except on an edge whose lists are counted.
        each_bytes: The approximate size of one of them.
        is_own: Whether only the edge refers to `records`: more may be added while the list waits.
        is_late: Whether a worker emitted them on its own, and not for a list that it was sent: they do not end its
            turn, on an edge whose lists are counted.
    """

    received_ns: int
    records: Sequence[Record]
    each_bytes: int
    is_own: bool = False
    is_late: bool = False
