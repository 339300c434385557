"""When something happened: what its sender says, else when it arrived."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import zenoh

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def time_of(stamp: zenoh.Timestamp | None, at_ns: int) -> tuple[int, str]:
    """Return a time of UNIX in nanoseconds for what arrived at `at_ns`, and whose it is: "sender" or "arrival"."""
    if stamp is None:
        return at_ns, "arrival"
    return (stamp.get_time() - _EPOCH) // _MICROSECOND * 1000, "sender"
