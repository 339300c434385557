"""Encoding: encodes arrays to packets with the times of their records."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import attrs
import av
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from penstock.errors import ConfigError, StoreError
from penstock_kafka_av.context import new_context
from penstock_kafka_av.parameters import parameters_in
from penstock_kafka_av.recording.muxing import IN_HEAD, Muxable, Track
from penstock_kafka_av.recording.passing import MICROSECOND
from penstock_kafka_av.threads import SHARE

_AT_ONCE: Mapping[str, Mapping[str, str]] = {
    "libx264": {"preset": "veryfast", "tune": "zerolatency"},
    "libx265": {"preset": "veryfast", "tune": "zerolatency", "x265-params": "log-level=error"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
    "libaom-av1": {"usage": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
}
"""Options that make an encoder return each packet at once: a kill would lose the frames that it buffers."""


@attrs.frozen
class Encoder:
    """Settings of a video encoder.

    Attributes:
        codec: libav's name of an encoder or a codec.
        rate: Nominal frames per second, for rate control.
        bitrate: Bits per second; None leaves it to the encoder.
        crf: Constant quality, on the encoder's scale; None leaves it to the encoder.
        pixel_format: Pixel format of the encoded frames.
        gop: Maximum number of frames from one keyframe to the next.
        threads: Number of threads; 0 uses this encoder's share of the processors.
        options: Further options, passed to libav.
    """

    codec: str
    rate: Fraction
    bitrate: int | None
    crf: int | None
    pixel_format: str
    gop: int
    threads: int
    options: Mapping[str, str]

    def check(self, where: str) -> None:
        """Raise ConfigError if libav lacks the encoder or an option, or the encoder lacks the pixel format."""
        try:
            codec = av.Codec(self.codec, "w")
        except ValueError as error:
            raise ConfigError(
                f"{where}: codec={self.codec!r} is not an encoder of this libav; use 'libx264', 'libx265', 'mjpeg', "
                "'mpeg4', 'ffv1' or 'libvpx-vp9'"
            ) from error
        if codec.type != "video":
            raise ConfigError(f"{where}: codec={self.codec!r} is for {codec.type}, not for video")
        known = [form.name for form in codec.video_formats or ()]
        if known and self.pixel_format not in known:
            raise ConfigError(
                f"{where}: codec={self.codec!r} cannot encode pixel_format={self.pixel_format!r}; it takes "
                f"{', '.join(known[:20])}"
            )
        context = self.context(width=256, height=144)
        try:
            context.open()
        except (av.FFmpegError, ValueError):  # perhaps only at this size: the first frame will show
            return
        unknown = sorted(context.options)
        if unknown:
            raise ConfigError(
                f"{where}: codec={self.codec!r} has no option {', '.join(map(repr, unknown))}; "
                f"`ffmpeg -h encoder={self.codec}` lists its options"
            )

    def context(self, *, width: int, height: int) -> VideoCodecContext:
        """Return an encoder of libav, not open yet. Raises ValueError."""
        context = new_context(self.codec, "w")
        context.width, context.height, context.pix_fmt = width, height, self.pixel_format
        context.framerate, context.time_base = self.rate, 1 / self.rate
        context.gop_size, context.max_b_frames = self.gop, 0
        context.thread_count = self.threads or 1
        context.flags |= Flags.global_header
        if self.bitrate is not None:
            context.bit_rate = self.bitrate
        context.options = self.settings()
        return context

    def settings(self) -> dict[str, str]:
        """Return the encoder's private options."""
        options = dict(_AT_ONCE.get(av.Codec(self.codec, "w").name, {}))
        if self.crf is not None:
            options["crf"] = str(self.crf)
        options.update(self.options)
        return options


@attrs.define(eq=False)
class _Waiting:
    seq: int
    time_ns: int
    pts: int
    discontinuity: bool


class Encoding:
    """Encode the frames of one channel, all of the same size and format."""

    def __init__(self, encoder: Encoder, *, width: int, height: int, pixel_format: str, where: str) -> None:
        """Open an encoder. Raises StoreError (not retryable) if it does not support frames of this size."""
        form = VideoFormat(encoder.pixel_format)
        across, down = 2 // form.chroma_width(2), 2 // form.chroma_height(2)
        if width % across or height % down:
            raise StoreError(
                f"{where}: {encoder.pixel_format} subsamples its chroma, so it cannot hold frames of {width}x{height} "
                f"pixels; set pixel_format='yuv444p', or crop to {width - width % across}x{height - height % down}",
                retryable=False,
            )
        self._period = max(1, round(1 / encoder.rate / MICROSECOND))
        self._input = pixel_format
        self._waiting: dict[int, _Waiting] = {}
        self._times: deque[int] = deque()
        self._first_serial = 0  # of `_times`
        self._serial = 0
        try:
            context = encoder.context(width=width, height=height)
            context.thread_count = encoder.threads or SHARE.join(self)
            context.open()
        except (av.FFmpegError, ValueError) as error:
            SHARE.leave(self)
            raise StoreError(
                f"{where}: {encoder.codec!r} does not encode {width}x{height} {encoder.pixel_format} at "
                f"{float(encoder.rate):g} frames/s with these options ({error}); correct the settings",
                retryable=False,
            ) from error
        self._context = context
        codec = context.codec
        name = str(getattr(codec, "canonical_name", None) or codec.name)
        self.track = Track(name, width, height, MICROSECOND, _in_head(context))
        self.reorders = bool(context.has_b_frames) or context.max_b_frames > 0

    @property
    def holds(self) -> bool:
        """Whether the encoder buffers frames whose packets it has not returned."""
        return bool(self._waiting)

    def encode(self, picture: NDArray[Any], *, seq: int, time_ns: int, pts: int, discontinuity: bool) -> list[Muxable]:
        """Send a frame to the encoder; return the packets that are ready. Raises ValueError, FFmpegError."""
        frame = VideoFrame.from_ndarray(picture, format=self._input)
        frame.pts = self._serial
        self._times.append(pts)
        self._waiting[self._serial] = _Waiting(seq, time_ns, pts, discontinuity)
        self._serial += 1
        return [self._timed(packet) for packet in self._context.encode(frame)]

    def drain(self) -> list[Muxable]:
        """Return the last packets; the encoder cannot be used afterwards. Raises FFmpegError."""
        self.close()
        return [self._timed(packet) for packet in self._context.encode(None)]

    def close(self) -> None:
        """Give the threads back; frames in the encoder are lost unless `drain` follows."""
        SHARE.leave(self)

    def _timed(self, packet: av.Packet[Any]) -> Muxable:
        serial = packet.pts if packet.pts is not None else self._serial - 1
        waiting = self._waiting.pop(serial)
        dts = self._dts(packet.dts) if packet.dts is not None else waiting.pts
        return Muxable(
            data=bytes(packet),
            pts=waiting.pts,
            dts=dts,
            duration=0,
            is_keyframe=packet.is_keyframe,
            seq=waiting.seq,
            time_ns=waiting.time_ns,
            discontinuity=waiting.discontinuity,
        )

    def _dts(self, serial: int) -> int:
        """Return the dts for a serial number in decoding order: the time of the frame with this number."""
        while self._first_serial < serial and len(self._times) > 1:
            self._times.popleft()
            self._first_serial += 1
        return self._times[0] + min(0, serial - self._first_serial) * self._period


def _in_head(context: VideoCodecContext) -> dict[str, Any]:
    """Return the codec parameters that a file header holds besides codec and size."""
    return {name: value for name, value in parameters_in(context).items() if name in IN_HEAD}


def as_picture(data: Any, declared: Any) -> tuple[NDArray[Any], str]:
    """Return the array of a frame, C-contiguous, and its pixel format.

    (height, width, 3) uint8 is "bgr24", or "rgb24" if declared; (height, width, 4) uint8 is "bgra", or another order of
    these channels if declared; (height, width) is "gray" if uint8, and "gray16le" if uint16. A uint8 array (height * 3
    / 2, width) is "yuv420p" or "nv12" if declared.

    Args:
        data: An array, or an object with a `to_array` method.
        declared: The `pixel_format` in the record's metadata, or None.

    Raises:
        ValueError: the data are not a picture; the message describes them.
    """
    to_array = getattr(data, "to_array", None)
    picture = data if isinstance(data, np.ndarray) else to_array() if callable(to_array) else None
    if not isinstance(picture, np.ndarray):
        raise ValueError(f"holds {type(data).__name__}, neither bytes nor an array")
    if 0 in picture.shape:
        raise ValueError(f"holds an array of shape {picture.shape}, which has no pixels")
    name = _format_of(picture, declared)
    if name is None:
        raise ValueError(
            f"holds an array of {picture.dtype} {picture.shape}, which is not an encodable picture: give uint8 "
            "(height, width, 3) or (height, width), or uint16 (height, width)"
        )
    if name == "gray16le":
        picture = picture.astype("<u2", copy=False)
    return np.ascontiguousarray(picture), name


def _format_of(picture: NDArray[Any], declared: Any) -> str | None:
    is_bytes = picture.dtype == np.uint8
    if is_bytes and picture.ndim == 3 and picture.shape[2] == 3:
        return declared if declared in ("rgb24", "bgr24") else "bgr24"
    if is_bytes and picture.ndim == 3 and picture.shape[2] == 4:
        return declared if declared in ("rgba", "bgra", "argb", "abgr") else "bgra"
    if picture.ndim == 2:
        if is_bytes and declared in ("yuv420p", "nv12"):
            return str(declared) if picture.shape[0] % 3 == 0 and picture.shape[1] % 2 == 0 else None
        if is_bytes:
            return "gray"
        if picture.dtype.kind == "u" and picture.dtype.itemsize == 2:  # in either byte order
            return "gray16le"
    return None


def size_of(picture: NDArray[Any], pixel_format: str) -> tuple[int, int]:
    """Return width and height of a picture in pixels."""
    height, width = picture.shape[:2]
    return width, height * 2 // 3 if pixel_format in ("yuv420p", "nv12") else height
