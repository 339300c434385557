"""Timeline: when the pictures of packets are shown, over rounds and joined recordings."""

from __future__ import annotations

from fractions import Fraction

import attrs

from penstock_kafka_av.container import Packet

_LEAP_S = Fraction(1, 4)
"""A time of decoding that goes back further than this begins another recording, joined to the first."""


@attrs.frozen
class Placed:
    """Where a packet is in time.

    Attributes:
        pts: When it is shown, in units since the first recording began; None if the container does not say.
        dts: When it is decoded, likewise.
        shown_ns: When it is shown, since the first packet; the n-th picture, where only an order is known.
        due_ns: When it is sent in real time, likewise.
        by_rate: True if the time comes from the rate and the order of decoding, and not from a pts.
    """

    pts: int | None
    dts: int | None
    shown_ns: int
    due_ns: int
    by_rate: bool


@attrs.define
class Timeline:
    """Put packets in time, one after the other."""

    unit: Fraction  # seconds
    rate: Fraction  # pictures per second, for those that have no time
    has_pts: bool  # False if the container has none, and what libav gives is a guess
    _shift: int = 0  # units: what comes is so much later than it says
    _first: int | None = None
    _last_dts: int | None = None
    _last_duration: int = 1
    _end: int = 0  # of what was shown, in units since the first
    _last_ns: int | None = None

    def place(self, packet: Packet) -> Placed:
        """Return the place of the next packet."""
        self._join(packet)
        pts = None if packet.pts is None else packet.pts + self._shift
        dts = None if packet.dts is None else packet.dts + self._shift
        by_rate = pts is None or not self.has_pts
        at = dts if by_rate else pts
        if at is None:  # one picture after the other
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
        """Go on behind the end with packets that begin again."""
        self._shift, self._last_dts = self._end, None

    def restart(self) -> None:
        """Begin anew: the next packet is the first."""
        self._shift, self._first, self._last_dts, self._end, self._last_ns = 0, None, None, 0, None

    def _join(self, packet: Packet) -> None:
        """Where the time of decoding leaps back, let it go on."""
        if packet.dts is not None:
            dts = packet.dts + self._shift
            if self._last_dts is not None and dts < self._last_dts - _LEAP_S / self.unit:
                self._shift += self._last_dts + self._last_duration - dts
                dts = packet.dts + self._shift
            self._last_dts = dts
        self._last_duration = packet.duration or 1

    def _ns(self, at: int) -> int:
        return (at - (self._first or 0)) * self.unit.numerator * 1_000_000_000 // self.unit.denominator
