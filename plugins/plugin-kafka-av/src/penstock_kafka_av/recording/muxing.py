"""Muxing: packets as the fragments of an MP4 or Matroska file, each made by libav in memory.

A muxer of libav keeps what it has not finished, and PyAV cannot ask it to write that. So each fragment is written by a
muxer of its own, which knows where it belongs, and only the part behind its head goes to the file: it can end at any
packet, and what is in the file is whole.
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
"""The formats of files, by the ends of their names."""

IN_HEAD = ("extradata", "color", "pix_fmt", "field_order", "sample_aspect_ratio")
"""The codec parameters that a file says of its video; PyAV can give a muxer no others."""

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
    """What the head of a file says of its video.

    Attributes:
        codec: libav's name, such as "h264".
        width: Pixels.
        height: Pixels.
        time_base: Seconds of a unit of pts.
        parameters: Others that came with the packets; see `penstock_kafka_av.parameters.apply`.
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
    """Return the track that `plain_of` gave, or None for anything else."""
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
    """A packet on its way into a file.

    Attributes:
        data: Its bytes.
        pts: When it is shown, in units of its track.
        dts: When it is decoded, likewise; in a file it rises from packet to packet, and is at most `pts`. None if
            nobody knows yet.
        duration: How long it is shown, likewise; 0 if nobody knows yet.
        is_keyframe: Whether a player can start here.
        seq: The number of its record.
        time_ns: The time of its record.
        discontinuity: Whether its record does not continue the one before.
        ahead: The numbers of records whose parameter sets lead it.
        is_moved: Whether its time had to be raised to be behind the one before.
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
    """Make the head and the fragments of one file."""

    def __init__(self, track: Track, *, suffix: str, where: str) -> None:
        """Make the head. Raises StoreError that cannot be retried: this format cannot hold this video."""
        self.track = track
        self._format = FORMATS[suffix]
        self._count = 0
        try:
            self._scratch = av.open(io.BytesIO(), "w", format="matroska")
            template = self._scratch.add_stream(track.codec, width=track.width, height=track.height)
            if not isinstance(template, VideoStream):
                raise ValueError("it is no video")
            self._template = template
            memory, container, _ = self._begun()
            self.head = memory.getvalue()
            container.close()
        except (av.FFmpegError, ValueError) as error:
            other = "an .mkv" if suffix == ".mp4" else "another codec"
            raise StoreError(
                f"{where}: a video of {track.codec} {track.width}x{track.height} cannot be kept in a {suffix} file "
                f"({error}); choose {other}",
                retryable=False,
            ) from error

    def fragment(self) -> Fragment:
        """Begin the next fragment."""
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
    """Packets that continue a file."""

    def __init__(
        self, memory: io.BytesIO, container: OutputContainer, stream: VideoStream, time_base: Fraction
    ) -> None:
        """Take a muxer that has written its head into this memory."""
        self._memory, self._container, self._stream, self._time_base = memory, container, stream, time_base
        self._head_bytes = memory.tell()

    def add(self, each: Muxable) -> None:
        """Take a packet. Raises ValueError, FFmpegError: its bytes are no packet of this codec; it is left out."""
        packet: av.Packet[Any] = av.Packet(each.data)
        packet.stream, packet.time_base = self._stream, self._time_base
        packet.pts, packet.dts, packet.duration = each.pts, each.dts, each.duration
        packet.is_keyframe = each.is_keyframe
        self._container.mux_one(packet)

    def close(self) -> memoryview:
        """Return its bytes."""
        self._container.close()
        # Not getbuffer(): a BytesIO cannot be freed in a cycle while that is in use. getvalue() makes no copy either.
        return memoryview(self._memory.getvalue())[self._head_bytes :]
