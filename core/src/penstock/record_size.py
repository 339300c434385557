"""How much memory records take, cheaply enough to ask for every list of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from penstock.record import Record

OVERHEAD_BYTES = 400
"""What a record takes beside its data: the struct, a small metadata dict, slots in lists (measured, rounded up)."""


def size_of(data: Any) -> int:
    """Return the bytes that the data of a record takes; an estimate for anything but bytes and arrays."""
    kind = type(data)
    if kind is bytes or kind is bytearray:
        return len(data)
    size = getattr(data, "nbytes", None)  # numpy arrays, memoryviews
    if isinstance(size, int):
        return size
    return sys.getsizeof(data, 64)


def weigh(records: Sequence[Record]) -> int:
    """Return the bytes that one of these records takes: the larger of the first and the last."""
    first = size_of(records[0].data)
    return OVERHEAD_BYTES + (first if len(records) == 1 else max(first, size_of(records[-1].data)))
