"""LogPackage: an entry that a source puts into a DataLogger."""

from __future__ import annotations

from typing import Any

import attrs
import numpy

from penstock.errors import ConfigError
from penstock.short_text import short

_MOST_SOURCE = 255
_MOST_TIME = (1 << 64) - 1


def _source_id(value: Any) -> int:
    return _whole("source_id", value, _MOST_SOURCE)


def _time(value: Any) -> int:
    return _whole("timestamp", value, _MOST_TIME)


def _whole(name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | numpy.integer):
        raise ConfigError(f"LogPackage: {name}={short(value)} is not a whole number")
    if not 0 <= value <= most:
        raise ConfigError(f"LogPackage: {name}={short(int(value))} is not between 0 and {most}")
    return int(value)


def _payload(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, numpy.ndarray) and value.dtype == numpy.uint8 and value.ndim == 1:
        return value.tobytes()
    what = f"an array {value.shape} of {value.dtype}" if isinstance(value, numpy.ndarray) else type(value).__name__
    raise ConfigError(
        f"LogPackage: data are {what}; pass a one-dimensional uint8 array or bytes: "
        "numpy.ascontiguousarray(data).reshape(-1).view(numpy.uint8) has all bytes of any array"
    )


@attrs.define(frozen=True)
class LogPackage:
    """One entry for the disk.

    Attributes:
        source_id: The source that logs it: 0 to 255.
        timestamp: The time, as the source counts it: 0 to 2**64 - 1. By convention an entry of time 0 with 8 bytes of
            data has the time when the clock of the source was 0: microseconds since 1970 UTC, as an int64.
        data: (n,) uint8, or bytes; copied here. Other dtypes are refused, since an entry does not store its dtype.

    Raises:
        ConfigError: one of them is invalid (a ValueError).
    """

    source_id: int = attrs.field(converter=_source_id)
    timestamp: int = attrs.field(converter=_time)
    data: bytes = attrs.field(converter=_payload)
