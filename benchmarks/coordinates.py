"""What coordinates cost on the record path: made once, hashed once, compared and looked up often."""

from __future__ import annotations

import time
from collections.abc import Iterator

from measure import Row, medians, time_of_one

import penstock as ps

AGAIN = range(2000)


def rows(scale: float) -> Iterator[Row]:
    """Measure, beside a frozenset of the same items, the plainest thing that could be such a key."""
    axes = {"time": 3, "channel": "DAPI"}
    ours, other = ps.DataCoordinates(axes), ps.DataCoordinates(axes)
    theirs, another = frozenset(axes.items()), frozenset(axes.items())
    table, plain = {ours: 1}, {theirs: 1}
    hash(other)
    works = {
        "make": (lambda: [ps.DataCoordinates(axes) for _ in AGAIN], lambda: [frozenset(axes.items()) for _ in AGAIN]),
        "make and hash": (
            lambda: [hash(ps.DataCoordinates(axes)) for _ in AGAIN],
            lambda: [hash(frozenset(axes.items())) for _ in AGAIN],
        ),
        "hash again": (lambda: [hash(ours) for _ in AGAIN], lambda: [hash(theirs) for _ in AGAIN]),
        "compare": (lambda: [ours == other for _ in AGAIN], lambda: [theirs == another for _ in AGAIN]),
        "look up in a dict": (lambda: [table[other] for _ in AGAIN], lambda: [plain[another] for _ in AGAIN]),
    }
    for name, (one, two) in works.items():
        seconds = medians(one, two, int(50 * scale), time.process_time)
        name = f"coordinates of two axes: {name}"
        yield time_of_one(name, "a frozenset of the same items", seconds, "us", len(AGAIN))
