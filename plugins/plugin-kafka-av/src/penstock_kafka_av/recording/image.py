"""Image: one picture as the bytes of a PNG or JPEG file, and back."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

import attrs
import av
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from penstock_kafka_av.context import find_decoder, let_go, new_context, open_decoder

Kind = Literal["png", "jpeg"]

KINDS: dict[str, Kind] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}
"""Kinds of images, by the ends of their names."""

_ENCODED: dict[tuple[Kind, str], str] = {
    ("png", "bgr24"): "rgb24",
    ("png", "rgb24"): "rgb24",
    ("png", "gray"): "gray",
    ("png", "gray16le"): "gray16be",
    ("jpeg", "bgr24"): "yuvj420p",
    ("jpeg", "rgb24"): "yuvj420p",
    ("jpeg", "gray"): "yuvj420p",
}
_ENDS: dict[Kind, bytes] = {"png": b"IEND\xaeB`\x82", "jpeg": b"\xff\xd9"}
_DECODERS: dict[Kind, str] = {"png": "png", "jpeg": "mjpeg"}
_LAMBDA = 118  # FF_QP2LAMBDA
_MOST_KEPT = 8


@attrs.define(eq=False)
class ImageEncoder:
    """Encode pictures, with an encoder of libav for each size and format.

    Attributes:
        kind: "png" or "jpeg".
        quality: Of JPEG, 1 to 100.
        compression: Of PNG, 0 (fast) to 9 (small).
    """

    kind: Kind
    quality: int
    compression: int
    _contexts: dict[tuple[int, int, str], VideoCodecContext] = attrs.field(factory=dict)
    _count: int = 0

    def encode(self, picture: NDArray[Any], pixel_format: str) -> bytes:
        """Return the file of a picture, as `penstock_kafka_av.recording.encoding.as_picture` gives it.

        Raises:
            ValueError: images of this kind hold no such pixels; the message says which.
            FFmpegError: libav refuses it.
        """
        encoded = _ENCODED.get((self.kind, pixel_format))
        if encoded is None:
            remedy = "; use a path that ends in .png" if ("png", pixel_format) in _ENCODED else ""
            raise ValueError(
                f"holds {pixel_format!r} of {picture.shape}, which {self.kind.upper()} cannot keep{remedy}"
            )
        frame = VideoFrame.from_ndarray(picture, format=pixel_format).reformat(format=encoded)
        frame.pts, self._count = self._count, self._count + 1  # libav refuses times that do not rise
        key = (frame.width, frame.height, encoded)
        context = self._contexts.pop(key, None) or self._opened(*key)
        content = b"".join(bytes(packet) for packet in context.encode(frame))
        self._contexts[key] = context
        if len(self._contexts) > _MOST_KEPT:
            del self._contexts[next(iter(self._contexts))]
        return content

    def _opened(self, width: int, height: int, pixel_format: str) -> VideoCodecContext:
        context = new_context("png" if self.kind == "png" else "mjpeg", "w")
        context.width, context.height, context.pix_fmt = width, height, pixel_format
        context.time_base, context.thread_count = Fraction(1, 25), 1  # more threads would hold pictures back
        if self.kind == "png":
            context.options = {"compression_level": str(self.compression)}
        else:
            scale = 1 + (100 - self.quality) * 30 // 99  # libav counts from 1, the best, to 31
            context.flags |= Flags.qscale
            context.options = {"global_quality": str(scale * _LAMBDA), "qmin": "1"}
        return context


def decode_image(content: bytes, kind: Kind) -> tuple[NDArray[Any], str]:
    """Return the picture of a file, and its pixel format.

    (height, width, 3) uint8 in BGR order ("bgr24"); of a PNG without colours (height, width) uint8 ("gray") or uint16
    ("gray16le").

    Raises:
        ValueError: it is damaged, or no such file.
    """
    if not content.endswith(_ENDS[kind]):
        raise ValueError("it has no end: it is cut short, or not an image of this kind")
    context = open_decoder(find_decoder(_DECODERS[kind]), threads=1, hints={})
    try:
        packet: av.Packet[Any] = av.Packet(content)
        frames = [*context.decode(packet), *context.decode(None)]
    except av.FFmpegError as error:
        raise ValueError(f"it is damaged ({error})") from error
    finally:
        let_go(context)
    if len(frames) != 1:
        raise ValueError(f"it holds {len(frames)} pictures")
    name = frames[0].format.name
    form = {"gray": "gray", "gray16be": "gray16le", "gray16le": "gray16le"}.get(name, "bgr24")
    return np.ascontiguousarray(frames[0].to_ndarray(format=form)), form
