"""TestPictureSource: packets of a moving test picture, encoded on demand."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import av
from av.video.codeccontext import VideoCodecContext

from penstock.arguments import checks_arguments
from penstock.errors import ConfigError, EndOfSource, SourceError
from penstock.record import Record
from penstock.short_text import short
from penstock_kafka_av.encoder import H264, picture_frame


def _frames(_: object, __: object, value: object) -> None:
    if value is not None and not (type(value) is int and value > 0):
        raise ConfigError(f"frames={short(value)}: must be a number above 0, or None for an endless video")


@checks_arguments
@attrs.define(kw_only=True)
class TestPictureSource:
    """Generate H.264 packets of a disc that bounces over a gradient, in the format of a video source.

    The same settings yield the same pictures (x264 may encode them to different bytes from run to run). Pictures are
    drawn and encoded on demand, so memory does not depend on `frames`. Metadata are those of the video source.

    Attributes:
        frames: Total number of frames; None never ends.
        width: Pixels, even, 16 to 8192.
        height: Pixels, even, 16 to 8192.
        rate: Frames per second, 1 to 1000; there is a keyframe every second.
        bframes: Maximum number of consecutive B-frames, 0 to 16.
        channel: Channel of the records.
        realtime: True returns no packet before its time.
    """

    __test__: ClassVar[bool] = False  # pytest would collect it for its name
    gives: ClassVar[str] = "bytes"

    frames: int | None = attrs.field(default=150, validator=_frames)
    width: int = 320
    height: int = 240
    rate: int = 30
    bframes: int = 2
    channel: str = attrs.field(default="test-picture")
    realtime: bool = attrs.field(default=False)

    _encoder: VideoCodecContext | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _ready: deque[Record] = attrs.field(factory=deque, init=False, eq=False, repr=False)
    _drawn: int = attrs.field(default=0, init=False, eq=False, repr=False)
    _given: int = attrs.field(default=0, init=False, eq=False, repr=False)
    _flushed: bool = attrs.field(default=False, init=False, eq=False, repr=False)
    _epoch_ns: int = attrs.field(default=0, init=False, eq=False, repr=False)
    _zero_ns: int = attrs.field(default=0, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Check the numbers. Raises ConfigError."""
        self._settings()

    def open(self) -> None:
        """Open the encoder. Raises ConfigError if this build of PyAV has no H.264 encoder."""
        self._encoder = self._settings().open()
        self._ready.clear()
        self._drawn = self._given = 0
        self._flushed = False
        self._epoch_ns, self._zero_ns = time.time_ns(), time.monotonic_ns()

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the next packets; see `penstock.source.Source`."""
        deadline_ns = time.monotonic_ns() + round(timeout_s * 1e9)
        records: list[Record] = []
        while len(records) < max_records:
            if not self._ready and not self._encode():
                if not records:
                    raise EndOfSource(f"test picture {self.channel!r} has ended after {self._given} packets")
                break
            if self.realtime:
                due_ns = self._zero_ns + self._given * 1_000_000_000 // self.rate
                now_ns = time.monotonic_ns()
                if due_ns > now_ns and (records or due_ns > deadline_ns):
                    if not records:
                        time.sleep(max(0, deadline_ns - now_ns) / 1e9)
                    break
                time.sleep(max(0, due_ns - now_ns) / 1e9)
            records.append(self._ready.popleft())
            self._given += 1
        return records

    def close(self) -> None:
        """Release the encoder."""
        self._encoder = None
        self._ready.clear()

    def _settings(self) -> H264:
        return H264(
            width=self.width, height=self.height, rate=self.rate, bframes=self.bframes, keyframe_every=self.rate
        )

    def _encode(self) -> bool:
        """Draw and encode until a packet is ready; return False at the end."""
        if self._encoder is None:
            raise SourceError(f"test picture {self.channel!r} is not open; call open() before read()")
        while not self._ready and not self._flushed:
            if self.frames is None or self._drawn < self.frames:
                packets = self._encoder.encode(picture_frame(self._drawn, width=self.width, height=self.height))
                self._drawn += 1
            else:
                packets = self._encoder.encode(None)
                self._flushed = True
            for packet in packets:
                self._ready.append(self._record_of(packet))
        return bool(self._ready)

    def _record_of(self, packet: av.Packet[Any]) -> Record:
        pts = packet.pts or 0
        return Record(
            data=bytes(packet),
            channel=self.channel,
            seq=self._given + len(self._ready),
            time_ns=self._epoch_ns + pts * 1_000_000_000 // self.rate,
            metadata={
                "codec": "h264",
                "width": self.width,
                "height": self.height,
                "time_base": [1, self.rate],
                "time_from": "open+pts",
                "pts": pts,
                "dts": packet.dts,
                "duration": 1,
                "is_keyframe": packet.is_keyframe,
            },
        )
