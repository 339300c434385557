"""Work for other processes, which import it from here."""

from __future__ import annotations

import math
from typing import Any

import numpy

import penstock as ps


def burn(record: ps.Record) -> ps.Record:
    """Keep a core busy for some milliseconds, in Python."""
    total = 0.0
    for number in range(40_000):
        total += math.sin(number)
    return record.replace(data=total)


def burn_for(count: int) -> None:
    """Do that so many times."""
    for number in range(count):
        burn(ps.Record(number))


def negative(record: ps.Record) -> ps.Record:
    """Make a new frame of a frame."""
    return record.replace(data=negative_array(record.data))


def negative_array(array: Any) -> Any:
    """Return 255 - array."""
    return numpy.subtract(255, array, dtype="uint8")


def length(record: ps.Record) -> ps.Record:
    """Make a little of a packet."""
    return record.replace(data=length_of(record.data))


def length_of(packet: bytes) -> int:
    """Return the length of a packet."""
    return len(packet)
