"""The messages between a run and its worker processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from penstock.record import Record

Reply = tuple[Mapping[str, Any], Sequence[Record]]
"""The result of a call to the component: keywords, and records."""

COUNTS: Final = ("passed", "extra", "buffered", "retries")
"""The counters of the worker process that the run adds up."""


@attrs.frozen(eq=False)
class Answer:
    """The answer of the component.

    Attributes:
        words: The keywords of the answer.
        records: The records that it returned and that could be sent.
        places: The index of each of them among all records that it returned.
        missing: The records that could not be sent, by index, with the reason.
        refused: The records of the request that could not be sent to it, by index, with their errors.
    """

    words: Mapping[str, Any]
    records: Sequence[Record]
    places: Sequence[int]
    missing: Mapping[int, str]
    refused: Mapping[int, BaseException]
