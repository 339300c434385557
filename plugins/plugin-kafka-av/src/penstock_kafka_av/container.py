"""Container: an open video, packet by packet, each as a decoder elsewhere can take it."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit

import attrs
import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.video.stream import VideoStream

from penstock.errors import SourceError
from penstock_kafka_av.display import Matrix, matrix_in
from penstock_kafka_av.header import matrix_in_header
from penstock_kafka_av.packet import side_data_of
from penstock_kafka_av.parameters import parameters_of

# Codecs whose packets in a file lack what a decoder needs first; the filter puts it before each keyframe.
# H.264's does so before IDR pictures only, and open groups begin with others: dump_extra adds it there.
_TO_ANNEX_B = {"h264": "h264_mp4toannexb,dump_extra", "hevc": "hevc_mp4toannexb"}


_WITH_MATRIX = ("mov", "matroska")
_LOOK_AHEAD = 16
_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS
_WITHOUT_PTS = ("avi",)
_DEFAULT_RATE = 25


@attrs.frozen
class Packet:
    """One packet, and what it says of itself.

    Attributes:
        data: Its bytes.
        pts: When it is shown, in units of the time base; None if the container does not say.
        dts: When it is decoded, likewise.
        duration: How long it is shown, likewise; 0 if the container does not say.
        is_keyframe: Whether a decoder can start here.
        discard: True if its picture is only needed by others and not to be shown.
        corrupt: True if part of it was lost on its way, as the container knows.
        side_data: What comes beside it and changes its picture, by libav's names.
    """

    data: bytes
    pts: int | None
    dts: int | None
    duration: int
    is_keyframe: bool
    discard: bool
    corrupt: bool = False
    side_data: Mapping[str, bytes] = attrs.field(factory=dict)


class Container:
    """Open a video, and give the packets of its first video stream in order."""

    def __init__(self, url: str, *, options: Mapping[str, Any], timeout_s: float) -> None:
        """Open it. Raises SourceError, with the reason and the remedy; nothing is open then."""
        self.url = url
        self.name = shown(url)
        if is_file(url):
            _check_file(self.name, path_of(url))
        settings = {key: str(value) for key, value in options.items()}
        if url.startswith("rtsp:"):  # over UDP, libav's own default, packets are lost without a word
            settings.setdefault("rtsp_transport", "tcp")
        try:
            opened = av.open(path_of(url) if is_file(url) else url, options=settings, timeout=timeout_s)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"video source: {self.name!r} {_reason(url, error, timeout_s)}") from error
        self._container: InputContainer = opened
        try:
            if not opened.streams.video:
                kinds = ", ".join(sorted({stream.type for stream in opened.streams})) or "nothing"
                raise SourceError(f"video source: {self.name!r} holds no video, only {kinds}; choose another file")
            self._stream: VideoStream = opened.streams.video[0]
            if self._stream.codec_context is None:
                raise SourceError(f"video source: {self.name!r} has a codec that this libav cannot decode")
            self._filter = _filter_for(self._stream)
            self._demuxed = opened.demux(self._stream)
            self._early: deque[av.Packet[Any]] = deque()
            self._matrix = self._first_matrix()
        except BaseException:
            opened.close()
            raise
        self.is_recording = is_file(url) or opened.duration is not None
        self._promises_length = self.is_recording and not _is_stream(opened)

    @property
    def is_intra_only(self) -> bool:
        """Whether every packet is a keyframe."""
        return bool(self._stream.codec_context.codec.intra_only)

    @property
    def time_base(self) -> tuple[int, int]:
        """Seconds per unit of pts, as numerator and denominator."""
        base = self._stream.time_base
        return (base.numerator, base.denominator) if base else (1, 1_000_000)

    @property
    def rate(self) -> Fraction:
        """Pictures per second, as far as it can be guessed."""
        stream = self._stream
        return stream.guessed_rate or stream.average_rate or Fraction(_DEFAULT_RATE)

    @property
    def has_pts(self) -> bool:
        """Whether the format says when pictures are shown; else libav guesses from the order of decoding."""
        return self._container.format.name not in _WITHOUT_PTS

    def describe(self) -> dict[str, Any]:
        """Return what every packet's metadata says: codec, size in pixels, time base."""
        context = self._stream.codec_context
        return {
            "codec": _canonical(context),
            "width": context.width,
            "height": context.height,
            "time_base": list(self.time_base),
        }

    def parameters(self) -> dict[str, Any]:
        """Return what a decoder must know beside the packets."""
        found = parameters_of(self._stream, in_band=self._filter is not None)
        if self._matrix is not None:
            found["display_matrix"] = list(self._matrix)
        return found

    def packets(self) -> Iterator[Packet]:
        """Yield all packets that are whole.

        Raises:
            SourceError: after the last whole packet, if the container says that there were more, or cannot be read on.
        """
        taken, end = 0, 0.0
        base = self._stream.time_base or 0
        doubtful: av.Packet[Any] | None = None  # cut short if it is the last, else damaged in the middle
        try:
            for packet in self._in_order():
                if not packet.size:
                    continue
                if doubtful is not None:
                    taken += 1
                    yield from self._filtered(doubtful)
                    doubtful = None
                if packet.is_corrupt and self._promises_length:
                    doubtful = packet
                    continue
                taken += 1
                if packet.pts is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * base))
                yield from self._filtered(packet)
        except av.FFmpegError as error:
            raise SourceError(
                f"video source: {self.name!r} cannot be read beyond packet {taken} ({error.strerror}); "
                "check the file or the connection",
                retryable=not self.is_recording,
            ) from error
        if doubtful is not None:
            raise SourceError(self._cut_short(taken), retryable=False)
        self._check_complete(taken, end)

    def close(self) -> None:
        """Close it; any number of times."""
        self._container.close()

    def _in_order(self) -> Iterator[av.Packet[Any]]:
        while self._early:
            yield self._early.popleft()
        yield from self._demuxed

    def _first_matrix(self) -> Matrix | None:
        """Return the display matrix of the stream. PyAV shows it only at frames, and in headers that it writes."""
        if self._container.format.name.partition(",")[0] not in _WITH_MATRIX:
            return None
        try:
            return matrix_in_header(self._stream)
        except (av.FFmpegError, ValueError):  # MOV has no place for this codec
            return self._matrix_of_keyframe()

    def _matrix_of_keyframe(self) -> Matrix | None:
        context = self._stream.codec_context
        context.thread_count = 1
        try:
            while len(self._early) < _LOOK_AHEAD and (packet := next(self._demuxed, None)) is not None:
                self._early.append(packet)
                if packet.is_keyframe and packet.size:
                    frames = context.decode(packet) or context.decode(None)
                    return matrix_in(frames[0], always=True) if frames else None
        except av.FFmpegError:  # reading on or decoding reports it
            return None
        return None

    def _filtered(self, packet: av.Packet[Any]) -> Iterator[Packet]:
        duration = packet.duration or 0
        flags = (packet.is_keyframe, packet.is_discard, packet.is_corrupt)
        side_data = side_data_of(packet)
        raw = bytes(packet)  # a filter takes the packet's content away
        try:
            parts = [packet] if self._filter is None else self._filter.filter(packet)
        except av.FFmpegError:  # damaged: the decoder will say so of this one packet, and the others can be had
            yield Packet(raw, packet.pts, packet.dts, duration, *flags, side_data)
            return
        for part in parts:
            yield Packet(bytes(part), part.pts, part.dts, part.duration or duration, *flags, side_data)

    def _check_complete(self, taken: int, end_s: float) -> None:
        """Raise SourceError if the container promised more than it gave. Bare streams and MPEG-TS promise nothing."""
        if not self._promises_length:
            return
        stream, base = self._stream, self._stream.time_base
        promised_s = 0.0
        if stream.frames:
            if taken < stream.frames and stream.duration and base:
                start = stream.start_time or 0
                promised_s = float((start + stream.duration) * base)
        elif "DURATION" in stream.metadata:  # Matroska's tag, "00:00:10.000000000"
            promised_s = _seconds(stream.metadata["DURATION"])
        rate = float(stream.average_rate or 25)
        if end_s + 1.5 / rate < promised_s:
            raise SourceError(self._cut_short(taken), retryable=False)

    def _cut_short(self, taken: int) -> str:
        return (
            f"video source: {self.name!r} is cut short: only {taken} packets are whole of "
            f"{self._stream.frames or 'more'}; copy or record it again (those {taken} were given)"
        )


def is_file(url: str) -> bool:
    """Return whether this is a path or a file: URL rather than something on a network or a device."""
    return "://" not in url or url.startswith("file://")


def path_of(url: str) -> str:
    """Return the path of a file: URL; a path stays as it is."""
    return url.removeprefix("file://")


def shown(url: str) -> str:
    """Return the URL without user name and password."""
    return re.sub(r"(?<=://)[^/@]*@", "…@", url)


def channel_of(url: str) -> str:
    """Return a channel for this URL: the name of the file without its ending, or the host."""
    path = path_of(url) if is_file(url) else urlsplit(url).path
    stem = os.path.splitext(os.path.basename(path.rstrip("/")))[0]
    return stem or urlsplit(url).hostname or "video"


def _is_stream(container: InputContainer) -> bool:
    """Return whether this format has no beginning and no end of its own, as MPEG-TS and bare streams."""
    name = container.format.name
    return name in ("mpegts", "mpeg") or bool(container.format.flags & _NO_TIMESTAMPS)


def _check_file(name: str, path: str) -> None:
    if not os.path.exists(path):
        raise SourceError(f"video source: file {name!r} does not exist; check the path")
    if os.path.isdir(path):
        raise SourceError(f"video source: {name!r} is a directory; name a file in it")
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise SourceError(f"video source: file {name!r} is empty (0 bytes); copy or record it again")
    if not os.access(path, os.R_OK):
        raise SourceError(f"video source: file {name!r} may not be read; change its permissions")


def _reason(url: str, error: Exception, timeout_s: float) -> str:
    if isinstance(error, av.error.ExitError):
        return f"did not answer within timeout_s={timeout_s}; check that it is running, or allow more time"
    if is_file(url):
        with open(path_of(url), "rb") as file:
            if file.read(12)[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
                return "is an MP4 file without its index (moov): it is cut short; copy or record it again"
        return "is not a video that libav can read; give a video file, such as MP4, Matroska or MPEG-TS"
    return f"cannot be opened ({getattr(error, 'strerror', None) or error}); check the address and that it is running"


def _filter_for(stream: VideoStream) -> BitStreamFilterContext | None:
    context = stream.codec_context
    name = _TO_ANNEX_B.get(_canonical(context))
    if name is None:
        return None
    extradata = context.extradata or b""
    if extradata.startswith((b"\x00\x00\x01", b"\x00\x00\x00\x01")):  # already has start codes, as RTSP and MPEG-TS
        name = "dump_extra"
    return BitStreamFilterContext(name, stream)


def _canonical(context: Any) -> str:
    """Return the codec's name; decoders have names of their own ("libdav1d" for "av1")."""
    codec = context.codec
    return str(getattr(codec, "canonical_name", None) or codec.name)


def _seconds(clock: str) -> float:
    try:
        hours, minutes, seconds = clock.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return 0.0
