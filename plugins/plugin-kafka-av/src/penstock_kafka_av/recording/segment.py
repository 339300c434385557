"""Segment: a file that is being written, its muxer, and its pending packets."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from itertools import pairwise
from typing import Any

import attrs

from penstock_kafka_av.recording.journal import runs_of
from penstock_kafka_av.recording.muxing import Fragment, Muxable, Muxer
from penstock_kafka_av.recording.segment_file import SegmentFile
from penstock_kafka_av.recording.timing import Clock

_FRAGMENT_BYTES = 4 << 20
_FRAGMENT_S = 5.0
_SHORTEST_FRAGMENT_S = 0.5
_LEAP_BACK_S = 1.0
_LEAP_S = 1800.0  # MP4 limits a duration to 2**31 units: 36 minutes in microseconds


@attrs.frozen
class Cutting:
    """The limits of a file.

    Attributes:
        segment_s: Maximum duration of a segment in seconds, or None.
        segment_bytes: Maximum size of a segment in bytes, or None.
    """

    segment_s: float | None
    segment_bytes: int | None


@attrs.define(eq=False)
class Segment:
    """Collect packets, and write them to the file as fragments.

    Attributes:
        file: The file.
        muxer: Creates its fragments.
        clock: Computes the times of its packets.
        begin: The pts of its first packet before `clock`, in units of the track.
        begin_ns: The time of its first record.
        by_pts: Whether pts come from the packets' metadata, rather than from the times of records.
    """

    file: SegmentFile
    muxer: Muxer
    clock: Clock
    begin: int
    begin_ns: int
    by_pts: bool
    _fragment: Fragment | None = None
    _pending: list[Muxable] = attrs.field(factory=list)  # the packets in the fragment
    _closed: deque[tuple[memoryview, dict[str, Any]]] = attrs.field(factory=deque)  # fragments not yet in the file
    _pending_bytes: int = 0  # of both
    _last: int = attrs.field(default=attrs.Factory(lambda self: self.begin, takes_self=True))
    _last_seq: int | None = None  # of the closed fragments

    @property
    def is_due(self) -> bool:
        """Whether enough is pending to write it."""
        return self._pending_bytes >= _FRAGMENT_BYTES or self._pending_s >= _FRAGMENT_S

    @property
    def is_due_at_keyframe(self) -> bool:
        """Whether enough is pending to write it before a keyframe."""
        return self._pending_s >= _SHORTEST_FRAGMENT_S

    def is_over(self, pts: int, cutting: Cutting) -> bool:
        """Return whether a keyframe with this pts begins the next file.

        It does if the file has reached a limit, or if time jumps back, or ahead by more than a file supports.
        """
        unit = float(self.clock.unit)
        leap_s = (pts - self._last) * unit
        if leap_s < -_LEAP_BACK_S or leap_s > _LEAP_S:
            return True
        if cutting.segment_s is not None and (pts - self.begin) * unit >= cutting.segment_s - unit / 2:
            return True
        size_bytes = self.file.size_bytes + self._pending_bytes
        return cutting.segment_bytes is not None and size_bytes >= cutting.segment_bytes

    def pts_at(self, time_ns: int) -> int:
        """Return the pts for a record's time, for records without a pts in their metadata."""
        return self.begin + round(Fraction(time_ns - self.begin_ns, 1_000_000_000) / self.clock.unit)

    def add(self, packet: Muxable) -> None:
        """Add a packet, which stays pending until `flush`. Raises ValueError or FFmpegError for a malformed packet."""
        last = packet.pts
        packet.pts, packet.dts, packet.is_moved = self.clock.place(packet.pts, packet.dts)
        packet.duration = self.clock.duration(packet.duration)
        if self._fragment is None:
            self._fragment = self.muxer.fragment()
        self._fragment.add(packet)
        self._last = last
        self._pending.append(packet)
        self._pending_bytes += len(packet.data)
        packet.data = b""  # the fragment has a copy

    def flush(self) -> None:
        """Write the pending packets as a fragment. Raises OSError, and then they stay pending."""
        if self._fragment is not None:
            content, self._fragment = self._fragment.close(), None
            if self._pending:
                self._closed.append((content, self._description()))
                self._last_seq = max(packet.seq for packet in self._pending)
            self._pending = []
        while self._closed:
            content, entry = self._closed[0]
            self.file.append(content, entry)
            self._closed.popleft()
        self._pending_bytes = 0

    @property
    def _pending_s(self) -> float:
        """Seconds from the first pending packet to the last."""
        pending = self._pending
        return float(((pending[-1].dts or 0) - (pending[0].dts or 0)) * self.clock.unit) if pending else 0.0

    def _description(self) -> dict[str, Any]:
        packets = self._pending
        runs = runs_of(sorted(seq for packet in packets for seq in (*packet.ahead, packet.seq)))
        times = [packet.time_ns for packet in packets]
        entry: dict[str, Any] = {"packets": len(packets), "seqs": runs, "time_ns": [min(times), max(times)]}
        around = runs if self._last_seq is None else [[self._last_seq, self._last_seq], *runs]
        for name, found in (
            ("gaps", [[a[1], b[0]] for a, b in pairwise(around) if b[0] > a[1] + 1]),
            ("discontinuities", [packet.seq for packet in packets if packet.discontinuity]),
            ("moved", [packet.seq for packet in packets if packet.is_moved]),
        ):
            if found:
                entry[name] = found
        return entry
