"""Muxing: packets as fragments of an MP4 or Matroska file, each muxed by libav in memory.

A libav muxer buffers unfinished data, and PyAV cannot make it flush them. So each fragment is written by a separate
muxer that is given its place in the file, and only the part after the header goes to the file: a fragment can end at
any packet, and the file contains complete fragments only.
"""

from __future__ import annotations

import base64
import io
from fractions import Fraction
from typing import Any

import attrs
import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from penstock.errors import StoreError
from penstock_kafka_av.parameters import apply

FORMATS = {".mp4": "mp4", ".mkv": "matroska"}
"""File formats by suffix."""

IN_HEAD = ("extradata", "color", "pix_fmt", "field_order", "sample_aspect_ratio")
"""The codec parameters in the header of a file; PyAV cannot pass others to a muxer."""

_OPTIONS = {
    "mp4": {
        "movflags": "empty_moov+default_base_moof+frag_keyframe+frag_discont+skip_trailer",
        "use_editlist": "0",
        "avoid_negative_ts": "disabled",
        "strict": "-2",
    },
    "matroska": {"live": "1", "avoid_negative_ts": "disabled", "strict": "-2"},
}


@attrs.frozen
class Track:
    """The description of a video in the header of a file.

    Attributes:
        codec: libav's name, such as "h264".
        width: Pixels.
        height: Pixels.
        time_base: Seconds per unit of pts.
        parameters: Further codec parameters from the packets; see `penstock_kafka_av.parameters.apply`.
    """

    codec: str
    width: int
    height: int
    time_base: Fraction
    parameters: dict[str, Any] = attrs.field(factory=dict)


def plain_of(track: Track) -> dict[str, Any]:
    """Return a track as plain values for JSON."""
    parameters = dict(track.parameters)
    if "extradata" in parameters:
        parameters["extradata"] = base64.b64encode(parameters["extradata"]).decode()
    time_base = [track.time_base.numerator, track.time_base.denominator]
    return attrs.asdict(track) | {"time_base": time_base, "parameters": parameters}


def track_of(plain: Any) -> Track | None:
    """Return the track of a result of `plain_of`, or None for anything else."""
    try:
        parameters = {name: value for name, value in plain["parameters"].items() if name in IN_HEAD}
        if "extradata" in parameters:
            parameters["extradata"] = base64.b64decode(parameters["extradata"], validate=True)
        size = int(plain["width"]), int(plain["height"])
        return Track(str(plain["codec"]), *size, Fraction(*plain["time_base"]), parameters)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None


@attrs.define(eq=False)
class Muxable:
    """A packet to be written to a file.

    Attributes:
        data: Its bytes.
        pts: Presentation time, in units of its track.
        dts: Decoding time, in units of its track; in a file it increases from packet to packet and is at most `pts`.
            None if not known yet.
        duration: Duration, in units of its track; 0 if not known yet.
        is_keyframe: Whether a player can start here.
        seq: The number of its record.
        time_ns: The time of its record.
        discontinuity: Whether its record does not continue the previous one.
        ahead: The numbers of the records whose parameter sets precede it.
        is_moved: Whether its time was raised to follow the previous one.
    """

    data: bytes
    pts: int
    dts: int | None
    duration: int
    is_keyframe: bool
    seq: int
    time_ns: int
    discontinuity: bool = False
    ahead: tuple[int, ...] = ()
    is_moved: bool = False


class Muxer:
    """Create the header and the fragments of one file.

    Attributes:
        track: The video.
        head: The bytes of the file's header.
    """

    def __init__(self, track: Track, *, suffix: str, where: str) -> None:
        """Create the header. Raises StoreError (not retryable) if the format does not support this video."""
        self.track = track
        self._format = FORMATS[suffix]
        self._count = 0
        try:
            self._scratch = av.open(io.BytesIO(), "w", format="matroska")
            template = self._scratch.add_stream(track.codec, width=track.width, height=track.height)
            if not isinstance(template, VideoStream):
                raise ValueError("it is not a video codec")
            self._template = template
            memory, container, _ = self._begun()
            self.head = memory.getvalue()
            container.close()
        except (av.FFmpegError, ValueError) as error:
            other = "an .mkv" if suffix == ".mp4" else "another codec"
            raise StoreError(
                f"{where}: a video of {track.codec} {track.width}x{track.height} cannot be stored in a {suffix} file "
                f"({error}); choose {other}",
                retryable=False,
            ) from error

    def fragment(self) -> Fragment:
        """Return a new fragment, the next one of the file."""
        fragment = Fragment(*self._begun(), self.track.time_base)
        self._count += 1
        return fragment

    def _begun(self) -> tuple[io.BytesIO, OutputContainer, VideoStream]:
        memory, options = io.BytesIO(), dict(_OPTIONS[self._format])
        if self._format == "mp4":
            options["fragment_index"] = str(self._count + 1)
        container = av.open(memory, "w", format=self._format, options=options)
        stream = container.add_stream_from_template(self._template)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.width, context.height = self.track.width, self.track.height
        apply(context, self.track.parameters)
        stream.time_base = context.time_base = self.track.time_base
        container.start_encoding()
        return memory, container, stream


class Fragment:
    """A part of a file that holds some packets."""

    def __init__(
        self, memory: io.BytesIO, container: OutputContainer, stream: VideoStream, time_base: Fraction
    ) -> None:
        """Store a muxer that has written its header into `memory`."""
        self._memory, self._container, self._stream, self._time_base = memory, container, stream, time_base
        self._head_bytes = memory.tell()

    def add(self, each: Muxable) -> None:
        """Add a packet. Raises ValueError or FFmpegError, and leaves it out, if it is not a packet of this codec."""
        packet: av.Packet[Any] = av.Packet(each.data)
        packet.stream, packet.time_base = self._stream, self._time_base
        packet.pts, packet.dts, packet.duration = each.pts, each.dts, each.duration
        packet.is_keyframe = each.is_keyframe
        self._container.mux_one(packet)

    def close(self) -> memoryview:
        """Finish the fragment, and return its bytes."""
        self._container.close()
        # getbuffer() would keep a BytesIO in a reference cycle from being freed; getvalue() does not copy either
        return memoryview(self._memory.getvalue())[self._head_bytes :]
