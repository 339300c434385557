"""The limit of data sent to a process that has not answered yet: the buffer of its link."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from penstock.link import AHEAD_BYTES
from penstock.record import Record

_NOWHERE = Record(None).coords
_PLAIN = frozenset((bytes, str, int, float, bool, type(None)))
_BYTES = frozenset((bytes,))
_BESIDE_BYTES = 200
"""The most bytes of a record in addition to its data: its numbers, its place, an array's header and padding."""


def may_go_ahead(records: Sequence[Record]) -> bool:
    """Return whether these records fit into the buffer of a link that is not being read.

    Larger ones could block both sides: this one until its records are read, the other until its answer is read.
    Records whose size is not quickly bounded (parents, nested metadata, objects) count as too large.
    """
    count = len(records)
    if [record.parent for record in records].count(None) < count:
        return False
    held: list[Any] = [record.data for record in records]
    channels = [record.channel for record in records]
    longest = len(channels[0]) if channels.count(channels[0]) == count else max(map(len, channels))
    size = count * (_BESIDE_BYTES + 4 * longest)
    beside: list[Any] = [record.metadata for record in records]
    beside = beside if any(beside) else []
    coords = [record.coords for record in records]
    beside += coords if coords.count(_NOWHERE) < count else ()
    held.extend(item for mapping in beside for pair in mapping.items() for item in pair)
    kinds = set(map(type, held))
    if kinds == _BYTES:
        return size + sum(map(len, held)) <= AHEAD_BYTES
    if not kinds <= _PLAIN:
        numpy: Any = sys.modules.get("numpy")
        if numpy is None or not kinds <= _PLAIN | {numpy.ndarray}:
            return False
        size += sum([each.nbytes for each in held if type(each) is numpy.ndarray])
    if str in kinds:
        size += sum([4 * len(each) for each in held if type(each) is str])
    return size + sum(map(sys.getsizeof, held)) <= AHEAD_BYTES
