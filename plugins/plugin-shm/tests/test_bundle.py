"""Bundles: small records in columns."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.coords import DataCoordinates
from penstock.errors import StoreError
from penstock.record import Record
from penstock.testing import strategies
from penstock_shm.channel.bundle import bundled, unbundled

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(),
    strategies.text(),
)


def same(one: Record, other: Record) -> bool:
    fields = ("data", "channel", "seq", "time_ns", "metadata", "discontinuity")
    pairs = [(getattr(one, name), getattr(other, name)) for name in fields]
    return all(type(a) is type(b) and a == b for a, b in pairs) and dict(one.coords) == dict(other.coords)


@settings(deadline=None)
@given(st.lists(strategies.records(data=plain), min_size=1, max_size=6))
def test_what_is_bundled_comes_back(records):
    """Every field of a small, plain record keeps its value and type; other records are not bundled."""
    content = bundled(records)
    if content is None:
        return
    found = unbundled(memoryview(content))
    assert len(found) == len(records)
    assert all(map(same, found, records))


def test_each_field_may_differ():
    """Records of several channels, with and without coordinates, metadata and marks, share a bundle."""
    records = [
        Record(1, channel="a", seq=3, time_ns=5),
        Record(True, channel="a", seq=4, time_ns=5, discontinuity=True),
        Record(b"x", channel="b", seq=-1, time_ns=6, coords=DataCoordinates(z=2, channel="c")),
        Record(None, channel="a", metadata={"gain": 1.5, "on": False}),
    ]
    content = bundled(records)
    assert content is not None
    assert all(map(same, unbundled(memoryview(content)), records))


@pytest.mark.parametrize(
    "record",
    [
        Record(b"x" * 20_000),
        Record([1]),
        Record(1, parent=Record(2)),
        Record(1, metadata={"a": b"bytes"}),
        Record(1, metadata={"a": [1]}),
        Record(1, metadata={1: 1}),
    ],
)
def test_others_are_not_bundled(record):
    """A record that is large, nested or has a parent is left to the codec, with those beside it."""
    assert bundled([Record(0), record]) is None


@settings(deadline=None)
@given(st.binary(max_size=80), st.integers(0, 40))
def test_damaged_bundles_are_errors(noise, at):
    """Reading a block that claims to be a bundle returns records or raises StoreError, whatever its bytes."""
    content = bytearray(bundled([Record(b"abc", channel="c", seq=n) for n in range(3)]) or b"")
    at = min(at, len(content))
    content[at : at + len(noise)] = noise
    with contextlib.suppress(StoreError):
        unbundled(memoryview(bytes(content)))
