"""VideoSource: the packets or frames of a video file, an RTSP camera or an HTTP stream."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
from attrs.validators import deep_mapping, ge, gt, instance_of

from penstock.errors import SourceError
from penstock.record import Record
from penstock_kafka_av.container import channel_of, shown
from penstock_kafka_av.playback import Playback


def _path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


@attrs.define(kw_only=True, slots=False)
class VideoSource:
    """Give the packets of a video, in the order of decoding, or its frames.

    H.264 and HEVC packets are given as Annex B, with their parameter sets before each keyframe, so that a decoder
    anywhere can start at any keyframe. `seq` counts packets; frames have that of their packets. `time_ns` is when the
    picture is shown: the clock when the source was opened, plus the pts since the first packet ("open+pts" in
    `metadata["time_from"]`); where the container has no pts, plus the time of decoding, at the stream's own rate
    ("open+rate"), and a decoder puts these in the order of display. Where two recordings are joined, so that time leaps
    back, it goes on.

    Other metadata: `codec`, `width`, `height` (pixels), `time_base` ([numerator, denominator], seconds per unit),
    `pts`, `dts`, `duration` (units; absent if unknown), `is_keyframe`, `discard` (only if the picture is not to be
    shown), `corrupt` (only if part of the packet was lost on its way), `side_data` (what comes beside the packet and
    changes its picture), and with keyframes what a decoder must know of the stream (`penstock_kafka_av.parameters`):
    with each, or once a second where all packets are keyframes.

    A recording that is cut short gives every packet that is whole, then raises SourceError. Containers that promise no
    length (MPEG-TS, bare streams) cannot be found to be cut. A camera that sends faster than this is read fills 64
    packets, then its own buffers; what it drops then, this source cannot see.

    After a SourceError the same source may be opened again: a recording goes on with the packet after the last one
    given, a camera with what it sends now (`discontinuity` on the first packet). In a new process, `start` set to a
    kept position gives again what was not committed, led in by the packets from the keyframe before it, so that all
    of it can be decoded: those come twice, with the `seq` that they had and `discard` in the metadata, and the
    decoder gives no frames of them. Frames have the `seq` of their packets.

    Attributes:
        url: A path, or an address (`rtsp://…`, `http://…`). User name and password in it are never printed.
        channel: Channel of the records; "" takes the name of the file without its ending, or of the host.
        loop: Times to play a recording, 1 or more; time, pts and seq go on.
        realtime: True gives no packet before its time, as a camera would.
        frames: True decodes, and gives (height, width, 3) uint8 arrays in BGR order instead of packets.
        rotate: True turns frames as their display matrix says.
        options: Passed to libav ("rtsp_transport": "udp", …); RTSP runs over TCP unless told otherwise here.
        timeout_s: Seconds to wait for an address to answer, and for each packet of a camera.
        start: Number of packets that need not be given: a position of an earlier run. Recordings only.
    """

    gives: ClassVar[str] = "bytes"
    exact_fields: ClassVar[bool] = True

    url: str = attrs.field(converter=_path, validator=instance_of(str), repr=lambda url: repr(shown(str(url))))
    channel: str = attrs.field(default="", validator=instance_of(str))
    loop: int = attrs.field(default=1, validator=[instance_of(int), ge(1)])
    realtime: bool = attrs.field(default=False, validator=instance_of(bool))
    frames: bool = attrs.field(default=False, validator=instance_of(bool))
    rotate: bool = attrs.field(default=False, validator=instance_of(bool))
    options: dict[str, Any] = attrs.field(
        factory=dict, validator=deep_mapping(instance_of(str), instance_of((str, int, float)), instance_of(dict))
    )
    timeout_s: float = attrs.field(default=10.0, validator=[instance_of((int, float)), gt(0)])
    start: int = attrs.field(default=0, validator=[instance_of(int), ge(0)])

    _playback: Playback | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _is_open: bool = attrs.field(default=False, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Say what this one gives: arrays, if it decodes."""
        if self.frames:
            self.__dict__["gives"] = "array"

    def open(self) -> None:
        """Open the file or the address.

        Raises:
            SourceError: it is missing, empty, no video, cut before its index, or does not answer.
        """
        playback = self._playback if self._playback is not None and self._playback.failed else None
        if playback is not None:
            playback.connect()
        else:
            playback = Playback(
                url=self.url,
                channel=self.channel or channel_of(self.url),
                loop=self.loop,
                realtime=self.realtime,
                frames=self.frames,
                rotate=self.rotate,
                options=self.options,
                timeout_s=self.timeout_s,
            )
            playback.connect()
            if self.start:
                playback.skip_to(self.start)
        self._playback, self._is_open = playback, True

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the next packets or frames, as soon as there are some; see `penstock.source.Source`."""
        if self._playback is None or not self._is_open:
            raise SourceError(f"video source: {shown(self.url)!r} is not open; call open() before read()")
        return self._playback.read(max_records, timeout_s)

    def close(self) -> None:
        """Close it; any number of times. With an address, waits at most `timeout_s` for its thread."""
        self._is_open = False
        if self._playback is not None:
            self._playback.close()

    def position(self) -> int:
        """Return how many packets need not be given again; with `frames`, those of which all frames are out."""
        return self._playback.position() if self._playback is not None else self.start

    def seek(self, position: int) -> None:
        """Go on at this position; see `start`. Called after `open`, before `read`."""
        if self._playback is None or not self._is_open:
            raise SourceError(f"video source: {shown(self.url)!r} is not open; call open() before seek()")
        if type(position) is not int or position < 0:
            raise SourceError(
                f"video source: position {position!r} is not a number of packets; give what position() gave"
            )
        self._playback.skip_to(position)

    def commit(self, position: int) -> None:
        """Do nothing: a recording forgets nothing, and a camera keeps nothing. See `start`."""

    def lost_upstream(self) -> Mapping[str, int]:
        """Return how many packets arrived damaged, as the container knows; with `frames`, pictures not decoded."""
        return self._playback.lost() if self._playback is not None else {}
