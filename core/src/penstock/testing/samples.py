"""Samples that the contracts write: arrays of every kind, names of channels, metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from penstock.coords import DataCoordinates

Array = numpy.ndarray[Any, numpy.dtype[Any]]


def _ramp(dtype: str) -> Callable[[], Array]:
    return lambda: numpy.arange(24).reshape(2, 3, 4).astype(dtype)


def _read_only() -> Array:
    array = numpy.arange(6)
    array.flags.writeable = False
    return array


def _structured() -> Array:
    array = numpy.zeros(3, [("x", "<i4"), ("name", "<U4"), ("position", "<f8", (2,))])
    array["x"], array["name"] = (1, 2, 3), "Å"
    return array


_DTYPES: tuple[str, ...] = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_DTYPES += ("float16", "float32", "float64", "complex64", "complex128", ">i2", ">f8")

ARRAYS: dict[str, Callable[[], Array]] = {name: _ramp(name) for name in _DTYPES} | {
    "nan and inf": lambda: numpy.array([numpy.nan, numpy.inf, -numpy.inf, -0.0]),
    "text": lambda: numpy.array(["", "a", "Ångström ☃"]),
    "bytes": lambda: numpy.array([b"", b"a\x00b", b"abc"]),
    "datetime64": lambda: numpy.array(["2024-02-29T12:00:00.123", "NaT"], "datetime64[ms]"),
    "timedelta64": lambda: numpy.array([1, -1], "timedelta64[us]"),
    "structured": _structured,
    "0-d": lambda: numpy.array(7.5),
    "zero size": lambda: numpy.zeros((0, 3), "uint16"),
    "zero size in the middle": lambda: numpy.zeros((2, 0, 3)),
    "Fortran order": lambda: numpy.asfortranarray(numpy.arange(12.0).reshape(3, 4)),
    "every second": lambda: numpy.arange(20)[::2],
    "backwards": lambda: numpy.arange(20)[::-1],
    "a window": lambda: numpy.arange(100, dtype="uint8").reshape(10, 10)[2:7, 3:5],
    "axes swapped": lambda: numpy.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "broadcast": lambda: numpy.broadcast_to(numpy.arange(3), (4, 3)),
    "read-only": _read_only,
    "many axes": lambda: numpy.zeros((1,) * 16),
}
"""Arrays of each kind, by a name that describes the kind."""

CHANNELS = ("camera", "lab/camera/1", "lab_camera_1", "Ångström ☃", "with space", "日本", "a.b", "-", "CAMERA")
"""Names of channels, some of which a store of files or keys could mix up."""

ODD_CHANNELS = {
    "empty": "",
    "300 characters": "c" * 300,
    "5000 characters": "c" * 5000,
    "NUL": "a\x00b",
    "ends of lines": "a\r\nb\n",
    "up": "../../up",
    "absolute": "/tmp/absolute",
    "dots": "..",
    "lone surrogate": "\ud800",
}
"""Names of channels that a store may refuse, by a description."""

METADATA: dict[str, Any] = {
    "nothing": None,
    "flag": True,
    "number": -3,
    "large": 2**53 + 1,
    "real": 0.1,
    "text": "Ångström ☃ \n\t\"'\\",
    "empty": {},
    "list": [1, "two", [3.0, None]],
    "nested": {"a": {"b": {"c": [{}]}}},
    "with/slash": "with.dot",
}
"""Metadata that every format can hold."""

ODD_FIELDS: dict[str, dict[str, Any]] = {
    "a negative number": {"seq": -1},
    "a number of more than 64 bits": {"seq": 2**70},
    "a time before 1970": {"time_ns": -1},
    "a time of more than 64 bits": {"time_ns": 2**70},
    "a coordinate of more than 64 bits": {"coords": DataCoordinates(time=2**70)},
    "metadata with keys that are not text": {"metadata": {1: "one", ("a", 2): "pair"}},
    "metadata that no format supports": {"metadata": {"driver": object()}},
    "metadata with a surrogate": {"metadata": {"name": "\ud800"}},
}
"""Fields that the types of `Record` allow, and that many formats cannot hold."""
