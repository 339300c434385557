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
    """The mark that nothing more will come on this edge."""


END: Final = End()


class Chunk(msgspec.Struct, eq=False):
    """Records that travel together. A list that anybody but the edge holds is never changed.

    Attributes:
        received_ns: When the source returned them (monotonic clock, ns).
        records: At least one, except on an edge whose lists are counted.
        each_bytes: The approximate size of one of them.
        is_own: Whether `records` is a list that only the edge holds: as long as it waits, more may be added.
    """

    received_ns: int
    records: Sequence[Record]
    each_bytes: int
    is_own: bool = False
