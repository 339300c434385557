"""The time of a message: the sender's timestamp, or the time of arrival."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import zenoh

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def time_of(stamp: zenoh.Timestamp | None, at_ns: int) -> tuple[int, str]:
    """Return the UNIX time (ns) of a message that arrived at `at_ns`, and its origin: "sender" or "arrival"."""
    if stamp is None:
        return at_ns, "arrival"
    return (stamp.get_time() - _EPOCH) // _MICROSECOND * 1000, "sender"
