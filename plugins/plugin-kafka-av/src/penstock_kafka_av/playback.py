"""Playback: a video as records, numbered and timed, over several rounds and connections."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from penstock.errors import DecodeError, EndOfSource, SourceError
from penstock.record import Record
from penstock_kafka_av.container import Container, Packet
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.feed import Feed, FileFeed, LiveFeed

_DEFAULT_RATE = 25.0  # frames per second, where a bare stream does not say


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
    options: Mapping[str, Any]
    timeout_s: float

    failed: bool = False
    _feed: Feed | None = None
    _container: Container | None = None
    _common: dict[str, Any] = attrs.field(factory=dict)
    _hints: dict[str, Any] = attrs.field(factory=dict)
    _decoder: AvDecoder | None = None
    _waiting: deque[_Timed] = attrs.field(factory=deque)  # read, not yet given
    _end: Exception | None = None
    _given: int = 0
    _index: int = 0  # of the next packet
    _round: int = 0
    _round_index: int = 0  # of the first packet of this round
    _base: int = 0  # pts of this round, in units
    _span: int = 0  # of this round, in units
    _first_pts: int | None = None
    _epoch_ns: int = 0
    _zero_ns: int | None = None  # the monotonic clock at the first record
    _discontinuity: bool = False

    def connect(self) -> None:
        """Open the video, for the first time, for another round, or again after an error."""
        again, self.failed, self._end = self.failed, False, None
        container = Container(self.url, options=self.options, timeout_s=self.timeout_s)
        self._container = container
        self._feed = FileFeed(container) if container.is_recording else LiveFeed(container)
        self._common = {**container.describe(), "time_from": "open+pts"}
        self._hints = container.decoder_hints()
        if self.frames and self._decoder is None:
            self._decoder = AvDecoder()
        if not self._epoch_ns:
            self._epoch_ns = time.time_ns()
        if not again:
            return
        self._zero_ns = None
        if container.is_recording:
            for _ in range(self._index - self._round_index):
                self._feed.next(self.timeout_s)
        else:
            self._discontinuity, self._first_pts, self._epoch_ns = True, None, time.time_ns()
            if self._decoder is not None:
                self._decoder.reset()

    def skip_to(self, position: int) -> None:
        """Go on at this packet, led in by those from the keyframe before it; a camera only counts from there."""
        self._discontinuity = True
        if self._container is None or not self._container.is_recording:
            self._index = self._given = position
            return
        since_keyframe: list[_Timed] = []
        with contextlib.suppress(EndOfSource):  # it will be raised again by read()
            while self._index <= position and (timed := self._next(self.timeout_s)) is not None:
                if timed.record.metadata["is_keyframe"]:
                    since_keyframe.clear()
                since_keyframe.append(timed)
        if self._index <= position or not since_keyframe:
            since_keyframe.clear()
            self._given = self._index
        else:
            for timed in since_keyframe[:-1]:
                timed.record = timed.record.replace(metadata={**timed.record.metadata, "discard": True})
            first = since_keyframe[0]
            first.record = first.record.replace(discontinuity=True)
            self._given = position
        self._discontinuity = False
        for timed in since_keyframe:
            self._queue(timed)

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return up to so many records that are due."""
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
        """Return how many packets need not be given again."""
        if self._decoder is None:
            return self._given
        inside = [record.seq for record in self._decoder.unseen()]
        inside += [timed.record.parent.seq for timed in self._waiting if timed.record.parent is not None]
        return min(inside, default=self._index)

    def lost(self) -> Mapping[str, int]:
        """Return how many pictures could not be decoded here."""
        if self._decoder is None or not (count := self._decoder.skipped + self._decoder.damaged):
            return {}
        return {self.channel: count}

    def close(self) -> None:
        """Let go of the container."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def _fill(self, timeout_s: float) -> bool:
        """Get something to give; return whether there is."""
        deadline = time.monotonic() + timeout_s
        while not self._waiting and self._end is None:
            try:
                timed = self._next(max(0.0, deadline - time.monotonic()))
            except (EndOfSource, SourceError) as end:
                self._end = end
                if isinstance(end, EndOfSource) and self._decoder is not None:
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
        # counted in `lost`; the pictures behind it are wanted
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
                self._base += self._span
                self._round_index, self._span = self._index, 0
                self.close()
                self.connect()
                continue
            return None if packet is None else self._timed(packet)
        raise SourceError(f"video source: channel {self.channel!r} is closed; open it before reading")

    def _timed(self, packet: Packet) -> _Timed:
        numerator, denominator = self._common["time_base"]
        index, self._index = self._index, self._index + 1
        pts = packet.pts
        if pts is None:  # a bare stream: one picture after the other
            offset_ns = due_ns = round(index * 1e9 / _DEFAULT_RATE)
        else:
            if self._first_pts is None:
                self._first_pts = pts
            duration = packet.duration or 1
            self._span = max(self._span, pts - self._first_pts + duration)
            offset_ns = (pts - self._first_pts + self._base) * numerator * 1_000_000_000 // denominator
            dts = pts if packet.dts is None else packet.dts
            due_ns = (dts - self._first_pts + self._base) * numerator * 1_000_000_000 // denominator
        metadata = self._common.copy()
        if pts is not None:
            metadata["pts"] = pts + self._base
        if packet.dts is not None:
            metadata["dts"] = packet.dts + self._base
        if packet.duration:
            metadata["duration"] = packet.duration
        metadata["is_keyframe"] = packet.is_keyframe
        if packet.discard:
            metadata["discard"] = True
        if packet.is_keyframe:
            metadata.update(self._hints)
        record = Record(
            data=packet.data,
            channel=self.channel,
            seq=index,
            time_ns=self._epoch_ns + offset_ns,
            metadata=metadata,
            discontinuity=self._discontinuity,
        )
        self._discontinuity = False
        return _Timed(due_ns, record)

    def _wait_for(self, due_ns: int, timeout_s: float) -> bool:
        """Wait until this is due, or until the time is over; return whether it is due."""
        now = time.monotonic_ns()
        if self._zero_ns is None:
            self._zero_ns = now - due_ns
        wait_s = (self._zero_ns + due_ns - now) / 1e9
        if wait_s <= 0:
            return True
        time.sleep(min(wait_s, timeout_s))
        return wait_s <= timeout_s
