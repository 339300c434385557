"""What travels on the edges of a run: lists of records, barriers, and the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from penstock.record import Record

MOST_AT_ONCE: Final = 1024
"""Records that are taken together at most, so that a lane looks up often enough."""


@attrs.frozen
class Barrier:
    """Follow the records through every lane: what comes before it belongs to checkpoint `number`."""

    number: int


@attrs.frozen
class End:
    """Say that nothing more will come on this edge."""


END: Final = End()


@attrs.define(eq=False)
class Chunk:
    """A list of records that travels together, never changed once it is put.

    Attributes:
        received_ns: When the source handed them over (monotonic clock, ns).
        records: At least one, but for an edge whose lists are counted.
        each_bytes: What one of them takes, about.
    """

    received_ns: int
    records: Sequence[Record]
    each_bytes: int
