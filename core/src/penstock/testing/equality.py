"""Equality of records and of their data."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from penstock.arguments import checks_arguments
from penstock.errors import ConfigError
from penstock.record import Record
from penstock.short_text import short

FIELDS = frozenset(("data", "channel", "seq", "time_ns", "coords", "metadata"))
"""The fields of a record that a store can keep."""


@checks_arguments
def assert_same_record(expected: Record, actual: Any, *, fields: Collection[str] = FIELDS) -> None:
    """Fail unless these fields of both records are the same, arrays to the last bit."""
    assert isinstance(actual, Record), f"expected a Record, got {type(actual).__name__}"
    unknown = sorted(set(fields) - FIELDS)
    if unknown:
        raise ConfigError(f"fields={short(fields)}: must be several of {', '.join(sorted(FIELDS))}, not {unknown[0]!r}")
    for name in sorted(fields):
        assert_same_data(getattr(expected, name), getattr(actual, name), where=name)


def is_same_record(expected: Record, actual: Record, *, fields: Collection[str] = FIELDS) -> bool:
    """Return whether these fields of both records are the same."""
    try:
        assert_same_record(expected, actual, fields=fields)
    except AssertionError:
        return False
    return True


@checks_arguments
def assert_same_data(expected: Any, actual: Any, *, where: str = "data") -> None:
    """Fail unless both are the same: type of container, dtype, shape and each bit of an array; nan is nan.

    A tuple may come back as a list, and a scalar of numpy as a number, since many formats have no others.
    """
    if hasattr(expected, "dtype") and hasattr(expected, "tobytes") and getattr(expected, "shape", None) is not None:
        import numpy

        if isinstance(expected, numpy.ndarray):
            assert isinstance(actual, numpy.ndarray), f"{where}: expected an array, got {type(actual).__name__}"
            assert actual.dtype == expected.dtype, f"{where}: dtype {actual.dtype}, but {expected.dtype} was written"
            assert actual.shape == expected.shape, f"{where}: shape {actual.shape}, but {expected.shape} was written"
            assert actual.tobytes() == expected.tobytes(), f"{where}: other values than were written"
            return
        expected = expected.item()
    if isinstance(expected, Mapping):
        assert isinstance(actual, Mapping), f"{where}: expected a mapping, got {type(actual).__name__}"
        assert set(actual) == set(expected), f"{where}: keys {sorted(actual)}, but {sorted(expected)} were written"
        for key, value in expected.items():
            assert_same_data(value, actual[key], where=f"{where}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert isinstance(actual, (list, tuple)), f"{where}: expected a list, got {type(actual).__name__}"
        assert len(actual) == len(expected), f"{where}: {len(actual)} items, but {len(expected)} were written"
        for index, (left, right) in enumerate(zip(expected, actual, strict=True)):
            assert_same_data(left, right, where=f"{where}[{index}]")
    elif isinstance(expected, (bytes, bytearray, memoryview)):
        assert bytes(actual) == bytes(expected), f"{where}: other bytes than were written"
    elif isinstance(expected, float) and math.isnan(expected):
        assert isinstance(actual, float), f"{where}: expected nan, got {actual!r}"
        assert math.isnan(actual), f"{where}: expected nan, got {actual!r}"
    else:
        assert actual == expected, f"{where}: {short(actual)}, but {short(expected)} was written"


@checks_arguments
def assert_unique(records: Iterable[Record]) -> None:
    """Fail if two of these records have the same (channel, seq): a store that replaces would keep one of them."""
    seen: dict[tuple[str, int], Record] = {}
    for record in records:
        other = seen.setdefault((record.channel, record.seq), record)
        assert other is record, (
            f"two records are (channel {record.channel!r}, seq {record.seq}): {other!r:.200} and {record!r:.200}"
        )
