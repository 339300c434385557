"""Container: an open video, read packet by packet, in a form that a decoder elsewhere can use."""

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

# Codecs whose packets in a file lack the parameter sets; the filter inserts them before each keyframe.
# H.264's filter does so before IDR pictures only; dump_extra adds them to the keyframes of open GOPs.
_TO_ANNEX_B = {"h264": "h264_mp4toannexb,dump_extra", "hevc": "hevc_mp4toannexb"}


_WITH_MATRIX = ("mov", "matroska")
_LOOK_AHEAD = 16
_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS
_WITHOUT_PTS = ("avi",)
_DEFAULT_RATE = 25


@attrs.frozen
class Packet:
    """One packet with its container's data about it.

    Attributes:
        data: Its bytes.
        pts: Presentation time in units of the time base; None if the container has none.
        dts: Decoding time in units of the time base; None if the container has none.
        duration: Duration in units of the time base; 0 if the container has none.
        is_keyframe: Whether a decoder can start here.
        discard: Whether its picture is only a reference for others and not to be shown.
        corrupt: Whether the container reports that part of it was lost in transmission.
        side_data: Side data that change its picture, by libav's names.
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
    """Open a video, and yield the packets of its first video stream in order."""

    def __init__(self, url: str, *, options: Mapping[str, Any], timeout_s: float) -> None:
        """Open the video. Raises SourceError with the reason and a remedy, and then nothing is left open."""
        self.url = url
        self.name = shown(url)
        if is_file(url):
            _check_file(self.name, path_of(url))
        settings = {key: str(value) for key, value in options.items()}
        if url.startswith("rtsp:"):  # UDP, libav's default, loses packets silently
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
        """Frames per second: libav's guess, else its average, else 25."""
        stream = self._stream
        return stream.guessed_rate or stream.average_rate or Fraction(_DEFAULT_RATE)

    @property
    def has_pts(self) -> bool:
        """Whether the format stores presentation times; if not, libav guesses them from the decoding order."""
        return self._container.format.name not in _WITHOUT_PTS

    def describe(self) -> dict[str, Any]:
        """Return the metadata that all packets share: codec, size in pixels, time base."""
        context = self._stream.codec_context
        return {
            "codec": _canonical(context),
            "width": context.width,
            "height": context.height,
            "time_base": list(self.time_base),
        }

    def parameters(self) -> dict[str, Any]:
        """Return the codec parameters that a decoder needs besides the packets."""
        found = parameters_of(self._stream, in_band=self._filter is not None)
        if self._matrix is not None:
            found["display_matrix"] = list(self._matrix)
        return found

    def packets(self) -> Iterator[Packet]:
        """Yield all complete packets.

        Raises:
            SourceError: after the last complete packet, if the container announced more or reading failed.
        """
        taken, end = 0, 0.0
        base = self._stream.time_base or 0
        doubtful: av.Packet[Any] | None = None  # truncated if it is the last, else only damaged
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
        """Close the video; may be called any number of times."""
        self._container.close()

    def _in_order(self) -> Iterator[av.Packet[Any]]:
        while self._early:
            yield self._early.popleft()
        yield from self._demuxed

    def _first_matrix(self) -> Matrix | None:
        """Return the display matrix of the stream, which PyAV exposes only on frames and in headers that it writes."""
        if self._container.format.name.partition(",")[0] not in _WITH_MATRIX:
            return None
        try:
            return matrix_in_header(self._stream)
        except (av.FFmpegError, ValueError):  # MOV does not support this codec
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
        except av.FFmpegError:  # a later read or decode reports it
            return None
        return None

    def _filtered(self, packet: av.Packet[Any]) -> Iterator[Packet]:
        duration = packet.duration or 0
        flags = (packet.is_keyframe, packet.is_discard, packet.is_corrupt)
        side_data = side_data_of(packet)
        raw = bytes(packet)  # a filter moves the packet's content out
        try:
            parts = [packet] if self._filter is None else self._filter.filter(packet)
        except av.FFmpegError:  # damaged: the decoder reports this packet, and the others are still usable
            yield Packet(raw, packet.pts, packet.dts, duration, *flags, side_data)
            return
        for part in parts:
            yield Packet(bytes(part), part.pts, part.dts, part.duration or duration, *flags, side_data)

    def _check_complete(self, taken: int, end_s: float) -> None:
        """Raise SourceError if the container announced more than was read. Raw streams and MPEG-TS announce nothing."""
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
            f"video source: {self.name!r} is truncated: only {taken} packets are complete of "
            f"{self._stream.frames or 'more'}; copy or record it again (those {taken} were read)"
        )


def is_file(url: str) -> bool:
    """Return whether this is a path or a file: URL rather than something on a network or a device."""
    return "://" not in url or url.startswith("file://")


def path_of(url: str) -> str:
    """Return the path of a file: URL; a path is returned unchanged."""
    return url.removeprefix("file://")


def shown(url: str) -> str:
    """Return the URL without user name and password."""
    return re.sub(r"(?<=://)[^/@]*@", "…@", url)


def channel_of(url: str) -> str:
    """Return a channel name for this URL: the file name without its suffix, or the host."""
    path = path_of(url) if is_file(url) else urlsplit(url).path
    stem = os.path.splitext(os.path.basename(path.rstrip("/")))[0]
    return stem or urlsplit(url).hostname or "video"


def _is_stream(container: InputContainer) -> bool:
    """Return whether this format has no header that announces its length: MPEG-TS and raw streams."""
    name = container.format.name
    return name in ("mpegts", "mpeg") or bool(container.format.flags & _NO_TIMESTAMPS)


def _check_file(name: str, path: str) -> None:
    if not os.path.exists(path):
        raise SourceError(f"video source: file {name!r} does not exist; check the path")
    if os.path.isdir(path):
        raise SourceError(f"video source: {name!r} is a directory; give the path of a file in it")
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise SourceError(f"video source: file {name!r} is empty (0 bytes); copy or record it again")
    if not os.access(path, os.R_OK):
        raise SourceError(f"video source: no permission to read file {name!r}; change its permissions")


def _reason(url: str, error: Exception, timeout_s: float) -> str:
    if isinstance(error, av.error.ExitError):
        return f"did not answer within timeout_s={timeout_s}; check that it is running, or allow more time"
    if is_file(url):
        with open(path_of(url), "rb") as file:
            if file.read(12)[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
                return "is an MP4 file without its index (moov): it is truncated; copy or record it again"
        return "is not a video that libav can read; give a video file, such as MP4, Matroska or MPEG-TS"
    return f"cannot be opened ({getattr(error, 'strerror', None) or error}); check the address and that it is running"


def _filter_for(stream: VideoStream) -> BitStreamFilterContext | None:
    context = stream.codec_context
    name = _TO_ANNEX_B.get(_canonical(context))
    if name is None:
        return None
    extradata = context.extradata or b""
    if extradata.startswith((b"\x00\x00\x01", b"\x00\x00\x00\x01")):  # already Annex B, as from RTSP and MPEG-TS
        name = "dump_extra"
    return BitStreamFilterContext(name, stream)


def _canonical(context: Any) -> str:
    """Return the codec's name, which may differ from the decoder's ("libdav1d" for "av1")."""
    codec = context.codec
    return str(getattr(codec, "canonical_name", None) or codec.name)


def _seconds(clock: str) -> float:
    try:
        hours, minutes, seconds = clock.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return 0.0
