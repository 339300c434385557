"""VideoSource: the packets or frames of a video file, an RTSP camera or an HTTP stream."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import ConfigError, SourceError
from penstock.record import Record
from penstock.short_text import short
from penstock.validators import at_least, library_options, seconds
from penstock_kafka_av.container import channel_of, shown
from penstock_kafka_av.playback import Playback


def _path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _is_url(_: object, __: object, value: Any) -> None:
    if not isinstance(value, str):
        raise ConfigError(f"url={short(value)}: must be a path or an address")


@checks_arguments
@attrs.define(kw_only=True, slots=False)
class VideoSource:
    """Read the packets of a video in decoding order, or its frames.

    H.264 and HEVC packets are in Annex B format, with their parameter sets before each keyframe, so a decoder can start
    at any keyframe. `seq` numbers packets; a frame has the `seq` of its packet. `time_ns` is the presentation time: the
    wall clock when the source was opened, plus the pts since the first packet ("open+pts" in `metadata["time_from"]`).
    If the container has no pts, the decoding time at the stream's frame rate is added instead ("open+rate"), and a
    decoder sorts these times into display order. If time jumps back, as in joined recordings, the times continue.

    Other metadata: `codec`, `width`, `height` (pixels), `time_base` ([numerator, denominator], seconds per unit),
    `pts`, `dts`, `duration` (units; absent if unknown), `is_keyframe`, `discard` (only if the frame is not to be
    shown), `corrupt` (only if part of the packet was lost in transmission), `side_data` (side data that change its
    frame), and the codec parameters (`penstock_kafka_av.parameters`) with each keyframe, or once a second if all
    packets are keyframes.

    Of a truncated recording, the source returns every complete packet and then raises SourceError. Formats that do not
    announce their length (MPEG-TS, raw streams) do not show truncation. If a camera sends faster than this source is
    read, it fills a queue of 64 packets and then its own buffers; packets that it drops then are not detected here.

    After a SourceError the same source may be opened again: a recording continues after the last packet returned, a
    camera with its current packet (`discontinuity` on the first one). In a new process, set `start` to a kept position
    to read the uncommitted packets again. The packets from the previous keyframe on precede them, so that all can be
    decoded: these repeat their `seq`, and have `discard` in the metadata, so that the decoder returns no frames of
    them.

    Attributes:
        url: A path, or an address (`rtsp://…`, `http://…`). User name and password in it are never printed.
        channel: Channel of the records; "" uses the file name without its suffix, or the host name.
        loop: Number of times to play a recording, 1 or more; time, pts and seq continue to increase.
        realtime: True returns no packet before its time, as a camera would.
        frames: True decodes, and returns (height, width, 3) uint8 arrays in BGR order instead of packets.
        rotate: True rotates and mirrors frames according to their display matrix.
        options: Options of libav ("rtsp_transport": "udp", …); RTSP uses TCP by default.
        timeout_s: Seconds to wait for an address to answer, and for each packet of a camera.
        start: Number of packets to skip: a position of an earlier run. Recordings only.
    """

    gives: ClassVar[str] = "bytes"
    exact_fields: ClassVar[bool] = True

    url: str = attrs.field(converter=_path, validator=_is_url, repr=lambda url: repr(shown(str(url))))
    channel: str = attrs.field(default="")
    loop: int = attrs.field(default=1, validator=at_least(1))
    realtime: bool = attrs.field(default=False)
    frames: bool = attrs.field(default=False)
    rotate: bool = attrs.field(default=False)
    options: dict[str, Any] = attrs.field(factory=dict, validator=library_options)
    timeout_s: float = attrs.field(default=10.0, validator=seconds)
    start: int = attrs.field(default=0, validator=at_least(0))

    _playback: Playback | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _is_open: bool = attrs.field(default=False, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Declare `gives="array"` if it decodes."""
        if self.frames:
            self.__dict__["gives"] = "array"

    def open(self) -> None:
        """Open the file or the address.

        Raises:
            SourceError: it is missing, empty, not a video, truncated before its index, or does not answer.
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
        """Return the next packets or frames as soon as any are available; see `penstock.source.Source`."""
        if self._playback is None or not self._is_open:
            raise SourceError(f"video source: {shown(self.url)!r} is not open; call open() before read()")
        return self._playback.read(max_records, timeout_s)

    def close(self) -> None:
        """Close it; may be called any number of times. With an address, waits at most `timeout_s` for its thread."""
        self._is_open = False
        if self._playback is not None:
            self._playback.close()

    def position(self) -> int:
        """Return the number of packets that need not be read again; with `frames`, those whose frames were returned."""
        return self._playback.position() if self._playback is not None else self.start

    def seek(self, position: int) -> None:
        """Continue at this position; see `start`. Call it after `open` and before `read`. Raises SourceError."""
        if self._playback is None or not self._is_open:
            raise SourceError(f"video source: {shown(self.url)!r} is not open; call open() before seek()")
        if type(position) is not int or position < 0:
            raise SourceError(
                f"video source: position {position!r} is not a number of packets; pass a result of position()"
            )
        self._playback.skip_to(position)

    def commit(self, position: int) -> None:
        """Do nothing: a file can be read again, and a camera cannot. See `start`."""

    def lost_upstream(self) -> Mapping[str, int]:
        """Return the number of packets that arrived damaged, by channel; with `frames`, the number of lost frames."""
        return self._playback.lost() if self._playback is not None else {}
