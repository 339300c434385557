"""Hypothesis strategies: arrays, coordinates, metadata, records, and plans of failing calls."""

from __future__ import annotations

from typing import Any

import numpy
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penstock.coords import DataCoordinates
from penstock.record import Record

_AXES = ("time", "z", "position", "row", "name")


def text(*, max_size: int = 20) -> st.SearchStrategy[str]:
    """Generate text that can be written as UTF-8."""
    return st.text(st.characters(codec="utf-8"), max_size=max_size)


def channels() -> st.SearchStrategy[str]:
    """Generate names of channels: letters of any script, digits, `.`, `-`, `_`, and parts joined by `/`."""
    part = st.from_regex(r"\A\w[\w.-]{0,11}\Z").filter(lambda name: not name.endswith("."))
    return st.lists(part, min_size=1, max_size=3).map("/".join)


def arrays(*, max_side: int = 6, max_dims: int = 4) -> st.SearchStrategy[numpy.ndarray[Any, Any]]:
    """Generate arrays of any dtype without objects, of any byte order, also 0-d, of zero size, and not contiguous."""
    dtypes = st.one_of(
        hnp.boolean_dtypes(),
        hnp.integer_dtypes(endianness="?"),
        hnp.unsigned_integer_dtypes(endianness="?"),
        hnp.floating_dtypes(endianness="?"),
        hnp.complex_number_dtypes(endianness="?"),
        hnp.datetime64_dtypes(endianness="?"),
        hnp.byte_string_dtypes(max_len=8),
    )
    shapes = hnp.array_shapes(min_dims=0, max_dims=max_dims, min_side=0, max_side=max_side)
    whole = hnp.arrays(dtypes, shapes)
    return st.one_of(
        whole,
        whole.map(numpy.transpose),
        whole.map(lambda array: array[::-1] if array.ndim else array),
        whole.map(lambda array: array[..., ::2] if array.ndim else array),
    )


def coordinates() -> st.SearchStrategy[DataCoordinates]:
    """Generate coordinates of up to four axes."""
    values = st.one_of(st.integers(-(2**31), 2**31), text())
    return st.dictionaries(st.sampled_from(_AXES), values, max_size=4).map(DataCoordinates)


def metadata() -> st.SearchStrategy[dict[str, Any]]:
    """Generate metadata that every format can hold: None, bool, int, float, text, lists and dicts of these."""
    leaf = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        text(),
    )
    tree = st.recursive(
        leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text(), inner, max_size=4), max_leaves=8
    )
    return st.dictionaries(text(), tree, max_size=4)


def records(*, data: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Record]:
    """Generate records with every field; their data are arrays and bytes, or from the strategy `data`."""
    return st.builds(
        Record,
        data if data is not None else st.one_of(arrays(), st.binary(max_size=100)),
        channel=channels(),
        seq=st.integers(0, 2**40),
        time_ns=st.integers(0, 2**62),
        coords=coordinates(),
        metadata=metadata(),
        discontinuity=st.booleans(),
    )


def fault_plans(*, calls: int = 20, most: int = 5) -> st.SearchStrategy[frozenset[int]]:
    """Generate plans of failing calls: numbers of up to `most` of the first `calls` calls, for `fail_on`."""
    return st.frozensets(st.integers(1, calls), max_size=most)
