"""IdleChannels: finds the channels whose decoders are to rest or to be closed."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic


class IdleChannels:
    """Find the channels that have had no record for the time after which their decoders rest or are closed.

    Active and resting channels are each kept in the order of their last records, so that only the first of each has
    to be checked, whatever their number.
    """

    def __init__(self, *, rest_s: float | None, close_s: float | None) -> None:
        """Set the seconds without a record after which a channel rests, or is over; None for never."""
        self._rest_s, self._close_s = rest_s, close_s
        self._awake: dict[str, float] = {}
        self._resting: dict[str, float] = {}

    def used(self, channels: Iterable[str]) -> None:
        """Record that these channels have just had records."""
        now = monotonic()
        for channel in channels:
            self._resting.pop(channel, None)
            self._awake.pop(channel, None)
            self._awake[channel] = now

    def forget(self, channel: str) -> None:
        """Stop watching a channel."""
        self._awake.pop(channel, None)
        self._resting.pop(channel, None)

    def wait_s(self) -> float | None:
        """Return the seconds until a channel has been idle for long enough; None if none can be."""
        dues = []
        if self._close_s is not None:
            dues += [_oldest(group) + self._close_s for group in (self._awake, self._resting) if group]
        if self._rest_s is not None and self._awake:
            dues.append(_oldest(self._awake) + self._rest_s)
        return max(0.0, min(dues) - monotonic()) if dues else None

    def to_close(self) -> list[str]:
        """Return the channels that are over, and stop watching them."""
        if self._close_s is None:
            return []
        return [*_take(self._awake, self._close_s), *_take(self._resting, self._close_s)]

    def to_rest(self) -> list[str]:
        """Return the channels whose decoders are to rest."""
        if self._rest_s is None:
            return []
        taken = _take(self._awake, self._rest_s)
        self._resting.update(taken)
        return list(taken)


def _oldest(group: dict[str, float]) -> float:
    return next(iter(group.values()))


def _take(group: dict[str, float], limit_s: float) -> dict[str, float]:
    now = monotonic()
    taken: dict[str, float] = {}
    while group and _oldest(group) + limit_s <= now:
        channel = next(iter(group))
        taken[channel] = group.pop(channel)
    return taken
