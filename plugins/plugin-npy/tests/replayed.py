"""What tests of the source npy-files share: archives, and what is read from them."""

from __future__ import annotations

import numpy

from penstock.errors import EndOfSource
from penstock.record import Record


def all_of(source):
    """Return all records up to the end, and what was refused, as text."""
    records, refused = [], []
    while True:
        try:
            records += source.read(100, 5.0)
        except EndOfSource:
            return records, refused
        refused += [str(error) for _, error in source.take_refused()]


def take(source, count):
    """Return so many records of a source that follows."""
    records = []
    while len(records) < count:
        records += source.read(count - len(records), 20.0)
    return records


def archive(store, count=5, **changes):
    """Write records with all that a record can have; return them."""
    records = [
        Record(
            numpy.full((2, 2), n, "u2"),
            channel=f"cam{n % 2}",
            seq=n // 2,
            time_ns=10**18 + n,
            coords={"z": 10 - n, "scan": "a"},
            metadata={"exposure": float("inf"), "nested": {"n": n}, "raw": b"\0"},
            discontinuity=n == 2,
        ).replace(**changes)
        for n in range(count)
    ]
    store.open()
    store.write(records)
    store.close()
    return records


def by_name(records):
    return sorted(records, key=lambda record: (record.channel, record.seq))


NPY = "{{ channel }}/{{ '%06d' % seq }}.npy"
