"""What the two sides of a worker process send each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from penstock.record import Record
from penstock.source import SupportsCommit, SupportsDrop, SupportsLag, SupportsLoss, SupportsRejected

Reply = tuple[Mapping[str, Any], Sequence[Record]]
"""What a call to the component returns: words, and records."""

SOURCE_FIGURES: Final = {
    SupportsCommit: "position",
    SupportsLoss: "lost_upstream",
    SupportsDrop: "dropped_upstream",
    SupportsRejected: "rejected",
    SupportsLag: "lag",
}
"""What each reply of a source says of it, by the ability that it has for it."""

COUNTS: Final = ("passed", "extra", "buffered", "retries")
"""The counters that the worker side counts and the run adds up."""


@attrs.frozen(eq=False)
class Answer:
    """What the component answered.

    Attributes:
        words: What it said.
        records: What it gave.
        places: The places that they had among all that it gave.
        missing: What it gave and cannot be sent here, by place, with the reason.
        refused: The records of the question that could not be sent to it, by place, with their errors.
    """

    words: Mapping[str, Any]
    records: Sequence[Record]
    places: Sequence[int]
    missing: Mapping[int, str]
    refused: Mapping[int, BaseException]
