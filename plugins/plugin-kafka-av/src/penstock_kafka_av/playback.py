"""Playback: a video as numbered and timed records, over several rounds and connections."""

from __future__ import annotations

import contextlib
import copy
import time
from collections import deque
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import attrs

from penstock.errors import DecodeError, EndOfSource, SourceError
from penstock.record import Record
from penstock_kafka_av.container import Container, Packet
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.feed import Feed, FileFeed, LiveFeed
from penstock_kafka_av.timeline import Timeline

_PARAMETERS_EVERY_NS = 1_000_000_000


@attrs.define
class _Timed:
    due_ns: int  # since the first record
    record: Record


@attrs.define(kw_only=True)
class Playback:
    """Turn packets of containers into records."""

    url: str
    channel: str
    loop: int
    realtime: bool
    frames: bool
    rotate: bool
    options: Mapping[str, Any]
    timeout_s: float

    failed: bool = False
    _feed: Feed | None = None
    _container: Container | None = None
    _common: dict[str, Any] = attrs.field(factory=dict)
    _parameters: dict[str, Any] = attrs.field(factory=dict)
    _parameters_at: int | None = None  # time of the packet that had them last
    _decoder: AvDecoder | None = None
    _waiting: deque[_Timed] = attrs.field(factory=deque)  # read, not returned yet
    _end: Exception | None = None
    _given: int = 0
    _index: int = 0  # of the next packet
    _round: int = 0
    _round_index: int = 0  # of the first packet of this round
    _timeline: Timeline | None = None
    _round_timeline: Timeline | None = None  # as it was at the first packet of this round
    _corrupt: int = 0
    _epoch_ns: int = 0
    _zero_ns: int | None = None  # the monotonic clock at the first record
    _discontinuity: bool = False

    def connect(self) -> None:
        """Open the video: for the first time, for another round, or again after an error. Raises SourceError."""
        again, self.failed, self._end = self.failed, False, None
        container = Container(self.url, options=self.options, timeout_s=self.timeout_s)
        self._container = container
        self._feed = FileFeed(container) if container.is_recording else LiveFeed(container)
        self._common = container.describe()
        self._parameters, self._parameters_at = container.parameters(), None
        if self.frames and self._decoder is None:
            self._decoder = AvDecoder(rotate=self.rotate)
        if not self._epoch_ns:
            self._epoch_ns = time.time_ns()
        if self._timeline is None:
            self._timeline = self._new_timeline()
        if not again:
            self._round_timeline = copy.copy(self._timeline)
            return
        self._zero_ns = None
        if container.is_recording:
            self._catch_up()
        else:
            self._discontinuity, self._timeline, self._epoch_ns = True, self._new_timeline(), time.time_ns()
            if self._decoder is not None:
                self._decoder.reset()

    def _new_timeline(self) -> Timeline:
        assert self._container is not None
        unit = Fraction(*self._container.time_base)
        return Timeline(unit=unit, rate=self._container.rate, has_pts=self._container.has_pts)

    def _catch_up(self) -> None:
        """Skip the packets of this round that were returned before; feed the flushed decoder from their keyframe on."""
        assert self._feed is not None
        position, self._index = self._index, self._round_index
        self._timeline = copy.copy(self._round_timeline)
        since_keyframe: list[_Timed] = []
        while self._index < position and (packet := self._feed.next(self.timeout_s)) is not None:
            if packet.is_keyframe:
                since_keyframe.clear()
            since_keyframe.append(self._timed(packet))
        if self._decoder is not None:
            for timed in since_keyframe:
                self._queue(_as_lead_in(timed))

    def skip_to(self, position: int) -> None:
        """Continue at this packet, preceded by those from its keyframe on; for a camera, only set the next number."""
        self._discontinuity = True
        if self._container is None or not self._container.is_recording:
            self._index = self._given = position
            return
        since_keyframe: list[_Timed] = []
        with contextlib.suppress(EndOfSource):  # read() raises it again
            while self._index <= position and (timed := self._next(self.timeout_s)) is not None:
                if timed.record.metadata["is_keyframe"]:
                    since_keyframe.clear()
                since_keyframe.append(timed)
        if self._index <= position or not since_keyframe:
            since_keyframe.clear()
            self._given = self._index
        else:
            since_keyframe[:-1] = map(_as_lead_in, since_keyframe[:-1])
            first = since_keyframe[0]
            metadata = {**first.record.metadata, **self._parameters}
            first.record = first.record.replace(discontinuity=True, metadata=metadata)
            self._given = position
        self._discontinuity = False
        for timed in since_keyframe:
            self._queue(timed)

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return up to `max_records` due records; () after `timeout_s`. Raises EndOfSource, SourceError."""
        deadline_ns = time.monotonic_ns() + round(timeout_s * 1e9)
        records: list[Record] = []
        while len(records) < max_records:
            left_s = 0.0 if records else max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)
            if not self._waiting and not self._fill(left_s):
                break
            if self.realtime and not self._wait_for(self._waiting[0].due_ns, left_s):
                break
            record = self._waiting.popleft().record
            if not self.frames:
                self._given = max(self._given, record.seq + 1)
            records.append(record)
        if not records and not self._waiting and self._end is not None:
            self.failed = not isinstance(self._end, EndOfSource)
            raise self._end
        return records

    def position(self) -> int:
        """Return the number of packets that need not be read again after a restart."""
        if self._decoder is None:
            return self._given
        inside = [record.seq for record in self._decoder.unseen()]
        inside += [timed.record.parent.seq for timed in self._waiting if timed.record.parent is not None]
        return min(inside, default=self._index)

    def lost(self) -> Mapping[str, int]:
        """Return the number of damaged packets; with a decoder, the number of frames that could not be decoded."""
        count = self._corrupt if self._decoder is None else self._decoder.skipped + self._decoder.damaged
        return {self.channel: count} if count else {}

    def close(self) -> None:
        """Release the container."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def _fill(self, timeout_s: float) -> bool:
        """Read the next records into `_waiting`; return whether there are any."""
        deadline = time.monotonic() + timeout_s
        while not self._waiting and self._end is None:
            try:
                timed = self._next(max(0.0, deadline - time.monotonic()))
            except (EndOfSource, SourceError) as end:
                self._end = end
                if self._decoder is not None:
                    self._queue_frames(self._decoder.flush())
                break
            if timed is None:
                break
            self._queue(timed)
        return bool(self._waiting)

    def _queue(self, timed: _Timed) -> None:
        if self._decoder is None:
            self._waiting.append(timed)
            return
        # counted in `lost`; later frames are still wanted
        with contextlib.suppress(DecodeError):
            self._queue_frames(self._decoder.decode(timed.record))

    def _queue_frames(self, frames: Sequence[Record]) -> None:
        self._waiting.extend(_Timed(frame.time_ns - self._epoch_ns, frame) for frame in frames)

    def _next(self, timeout_s: float) -> _Timed | None:
        while self._feed is not None:
            try:
                packet = self._feed.next(timeout_s)
            except EndOfSource:
                self._round += 1
                if self._round >= self.loop or self._container is None or not self._container.is_recording:
                    raise
                assert self._timeline is not None
                self._timeline.next_round()
                self._round_index = self._index
                self.close()
                self.connect()
                continue
            return None if packet is None else self._timed(packet)
        raise SourceError(f"video source: channel {self.channel!r} is closed; open it before reading")

    def _timed(self, packet: Packet) -> _Timed:
        assert self._timeline is not None
        index, self._index = self._index, self._index + 1
        placed = self._timeline.place(packet)
        metadata = self._common.copy()
        metadata["time_from"] = "open+rate" if placed.by_rate else "open+pts"
        if placed.pts is not None:
            metadata["pts"] = placed.pts
        if placed.dts is not None:
            metadata["dts"] = placed.dts
        if packet.duration:
            metadata["duration"] = packet.duration
        if packet.corrupt:
            metadata["corrupt"] = True
            self._corrupt += 1
        metadata["is_keyframe"] = packet.is_keyframe
        if packet.discard:
            metadata["discard"] = True
        if packet.side_data:
            metadata["side_data"] = dict(packet.side_data)
        if packet.is_keyframe and self._are_parameters_due(placed.shown_ns):
            metadata.update(self._parameters)
        record = Record(
            data=packet.data,
            channel=self.channel,
            seq=index,
            time_ns=self._epoch_ns + placed.shown_ns,
            metadata=metadata,
            discontinuity=self._discontinuity,
        )
        self._discontinuity = False
        return _Timed(placed.due_ns, record)

    def _are_parameters_due(self, offset_ns: int) -> bool:
        """Return whether a keyframe carries the codec parameters: each does, or one per second if all are keyframes."""
        assert self._container is not None
        at = self._parameters_at
        if at is not None and self._container.is_intra_only and at <= offset_ns < at + _PARAMETERS_EVERY_NS:
            return False
        self._parameters_at = offset_ns
        return True

    def _wait_for(self, due_ns: int, timeout_s: float) -> bool:
        """Wait until this is due, or until `timeout_s` has passed; return whether it is due."""
        now = time.monotonic_ns()
        if self._zero_ns is None:
            self._zero_ns = now - due_ns
        wait_s = (self._zero_ns + due_ns - now) / 1e9
        if wait_s <= 0:
            return True
        time.sleep(min(wait_s, timeout_s))
        return wait_s <= timeout_s


def _as_lead_in(timed: _Timed) -> _Timed:
    """Return a packet marked as needed only to decode later ones."""
    return _Timed(timed.due_ns, timed.record.replace(metadata={**timed.record.metadata, "discard": True}))
