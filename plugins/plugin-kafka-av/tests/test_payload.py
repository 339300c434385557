"""Results as headers and JSON."""

from __future__ import annotations

import json

import numpy
import pytest

from penstock.errors import StoreError
from penstock_kafka_av.comux.control import _plain
from penstock_kafka_av.kafka.payload import as_json, result_headers


def strict(text):
    """Parse JSON as other languages do, without NaN."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"score": float("nan"), "name": "µ"}, {"score": "NaN", "name": "µ"}),
        ([float("inf"), numpy.float32("-inf"), 1.5], ["Infinity", "-Infinity", 1.5]),
        (numpy.array([1.0, numpy.nan]), [1.0, "NaN"]),
        ({"boxes": numpy.arange(2), "id": numpy.int64(3), "raw": b"x"}, {"boxes": [0, 1], "id": 3, "raw": "x"}),
    ],
)
def test_json_is_valid_json(value, read):
    """Numbers that are not finite are written as text, since JSON has none; all else as before."""
    assert strict(as_json(value)) == read
    assert strict(dict(result_headers({"result": value}))["result"]) == read


def test_values_without_json_are_refused():
    """An object, and a list that contains itself, are errors of their record."""
    inside: list = []
    inside.append(inside)
    for value in (object(), inside):
        with pytest.raises(StoreError, match="cannot be written as JSON"):
            as_json(value)


def test_a_value_of_a_config_topic_that_is_nested_too_deeply_is_text():
    """JSON that no parser takes is an action's argument as text, and no error of the channel."""
    assert _plain(b"[" * 100_000) == "[" * 100_000
    assert _plain(b'{"a": 1}') == {"a": 1}
    assert _plain(b"\xff") == "\ufffd"
