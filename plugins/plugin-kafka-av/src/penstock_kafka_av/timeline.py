"""Timeline: presentation times of packets over several rounds and joined recordings."""

from __future__ import annotations

from fractions import Fraction

import attrs

from penstock_kafka_av.container import Packet

_LEAP_S = Fraction(1, 4)
"""Seconds: a dts that jumps back by more than this begins another, joined recording."""


@attrs.frozen
class Placed:
    """The times of a packet.

    Attributes:
        pts: Presentation time, in units, continued over rounds; None if the container has none.
        dts: Decoding time, in units, continued over rounds; None if the container has none.
        shown_ns: Presentation time, in nanoseconds since the first packet.
        due_ns: Time to send the packet in real time, in nanoseconds since the first packet.
        by_rate: Whether the time was computed from frame rate and decoding order instead of a pts.
    """

    pts: int | None
    dts: int | None
    shown_ns: int
    due_ns: int
    by_rate: bool


@attrs.define
class Timeline:
    """Compute the times of successive packets."""

    unit: Fraction  # seconds
    rate: Fraction  # frames per second, for packets without a time
    has_pts: bool  # False if the container has none, so that libav's pts are guesses
    _shift: int = 0  # units to add to the container's times
    _first: int | None = None
    _last_dts: int | None = None
    _last_duration: int = 1
    _end: int = 0  # latest presentation end, in units since the first packet
    _last_ns: int | None = None

    def place(self, packet: Packet) -> Placed:
        """Return the times of the next packet."""
        self._join(packet)
        pts = None if packet.pts is None else packet.pts + self._shift
        dts = None if packet.dts is None else packet.dts + self._shift
        by_rate = pts is None or not self.has_pts
        at = dts if by_rate else pts
        if at is None:  # no time at all: one frame period after the last
            at_ns = 0 if self._last_ns is None else self._last_ns + round(1_000_000_000 / self.rate)
            self._last_ns = at_ns
            return Placed(pts, dts, at_ns, at_ns, by_rate)
        if self._first is None:
            self._first = at
        self._end = max(self._end, at - self._first + (packet.duration or 1))
        at_ns = self._ns(at)
        self._last_ns = at_ns
        return Placed(pts, dts, at_ns, at_ns if dts is None else self._ns(dts), by_rate)

    def next_round(self) -> None:
        """Continue after the end, for packets that start over."""
        self._shift, self._last_dts = self._end, None

    def restart(self) -> None:
        """Start over: the next packet is the first."""
        self._shift, self._first, self._last_dts, self._end, self._last_ns = 0, None, None, 0, None

    def _join(self, packet: Packet) -> None:
        """Shift the times so that they continue after a jump back of dts."""
        if packet.dts is not None:
            dts = packet.dts + self._shift
            if self._last_dts is not None and dts < self._last_dts - _LEAP_S / self.unit:
                self._shift += self._last_dts + self._last_duration - dts
                dts = packet.dts + self._shift
            self._last_dts = dts
        self._last_duration = packet.duration or 1

    def _ns(self, at: int) -> int:
        return (at - (self._first or 0)) * self.unit.numerator * 1_000_000_000 // self.unit.denominator
