"""Container: an open video, packet by packet, each as a decoder elsewhere can take it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs
import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.video.stream import VideoStream

from penstock.errors import SourceError

# Codecs whose packets in a file lack what a decoder needs first; the filter puts it before each keyframe.
# H.264's does so before IDR pictures only, and open groups begin with others: dump_extra adds it there.
_TO_ANNEX_B = {"h264": "h264_mp4toannexb,dump_extra", "hevc": "hevc_mp4toannexb"}


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
    """

    data: bytes
    pts: int | None
    dts: int | None
    duration: int
    is_keyframe: bool
    discard: bool


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
        except BaseException:
            opened.close()
            raise
        self.is_recording = is_file(url) or opened.duration is not None

    @property
    def time_base(self) -> tuple[int, int]:
        """Seconds per unit of pts, as numerator and denominator."""
        base = self._stream.time_base
        return (base.numerator, base.denominator) if base else (1, 1_000_000)

    def describe(self) -> dict[str, Any]:
        """Return what every packet's metadata says: codec, size in pixels, time base."""
        context = self._stream.codec_context
        return {
            "codec": _canonical(context),
            "width": context.width,
            "height": context.height,
            "time_base": list(self.time_base),
        }

    def decoder_hints(self) -> dict[str, Any]:
        """Return what a decoder must know beside the packets; goes with every keyframe."""
        context = self._stream.codec_context
        hints: dict[str, Any] = {}
        if context.extradata and self._filter is None:
            hints["extradata"] = context.extradata
        depth = getattr(context, "reorder_depth", 0)  # av 14 cannot say
        if depth:
            hints["reorder_depth"] = depth
        color = [int(context.color_range), int(context.color_primaries), int(context.color_trc)]
        color.append(int(context.colorspace))
        if color != [0, 2, 2, 2]:  # libav's numbers for "not specified"
            hints["color"] = color
        return hints

    def packets(self) -> Iterator[Packet]:
        """Yield all packets that are whole.

        Raises:
            SourceError: after the last whole packet, if the container says that there were more, or cannot be read on.
        """
        taken, end = 0, 0.0
        base = self._stream.time_base or 0
        try:
            for packet in self._container.demux(self._stream):
                if not packet.size:
                    continue
                if packet.is_corrupt and self.is_recording:
                    raise SourceError(self._cut_short(taken), retryable=False)
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
        self._check_complete(taken, end)

    def close(self) -> None:
        """Close it; any number of times."""
        self._container.close()

    def _filtered(self, packet: av.Packet[Any]) -> Iterator[Packet]:
        key, discard, duration = packet.is_keyframe, packet.is_discard, packet.duration or 0
        raw = bytes(packet)  # a filter takes the packet's content away
        try:
            parts = [packet] if self._filter is None else self._filter.filter(packet)
        except av.FFmpegError:  # damaged: the decoder will say so of this one packet, and the others can be had
            yield Packet(raw, packet.pts, packet.dts, duration, key, discard)
            return
        for part in parts:
            yield Packet(bytes(part), part.pts, part.dts, part.duration or duration, key, discard)

    def _check_complete(self, taken: int, end_s: float) -> None:
        """Raise SourceError if the container promised more than it gave. Bare streams and MPEG-TS promise nothing."""
        if not self.is_recording:
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
