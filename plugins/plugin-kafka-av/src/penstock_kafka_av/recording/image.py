"""Image: encodes a picture to the bytes of a PNG or JPEG file, and decodes it."""

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

from penstock_kafka_av.context import find_decoder, new_context, open_decoder, wait_until_idle

Kind = Literal["png", "jpeg"]

KINDS: dict[str, Kind] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}
"""Kinds of images by file suffix."""

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
    """Encode pictures, with one libav encoder for each size and format.

    Attributes:
        kind: "png" or "jpeg".
        quality: JPEG quality, 1 to 100.
        compression: PNG compression level, 0 (fast) to 9 (small).
    """

    kind: Kind
    quality: int
    compression: int
    _contexts: dict[tuple[int, int, str], VideoCodecContext] = attrs.field(factory=dict)
    _count: int = 0

    def encode(self, picture: NDArray[Any], pixel_format: str) -> bytes:
        """Return the bytes of an image file of a picture.

        Args:
            picture: An array, as returned by `penstock_kafka_av.recording.encoding.as_picture`.
            pixel_format: Its pixel format, from the same function.

        Raises:
            ValueError: images of this kind do not support the pixel format; the message names it.
            FFmpegError: libav cannot encode the picture.
        """
        encoded = _ENCODED.get((self.kind, pixel_format))
        if encoded is None:
            remedy = "; use a path that ends in .png" if ("png", pixel_format) in _ENCODED else ""
            raise ValueError(
                f"holds {pixel_format!r} of {picture.shape}, which {self.kind.upper()} cannot keep{remedy}"
            )
        frame = VideoFrame.from_ndarray(picture, format=pixel_format).reformat(format=encoded)
        frame.pts, self._count = self._count, self._count + 1  # libav rejects times that do not increase
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
        context.time_base, context.thread_count = Fraction(1, 25), 1  # more threads would delay pictures
        if self.kind == "png":
            context.options = {"compression_level": str(self.compression)}
        else:
            scale = 1 + (100 - self.quality) * 30 // 99  # libav's scale goes from 1, the best, to 31
            context.flags |= Flags.qscale
            context.options = {"global_quality": str(scale * _LAMBDA), "qmin": "1"}
        return context


def decode_image(content: bytes, kind: Kind) -> tuple[NDArray[Any], str]:
    """Return the picture of an image file, and its pixel format.

    The array is (height, width, 3) uint8 in BGR order ("bgr24"); for a grayscale PNG, (height, width) uint8 ("gray") or
    uint16 ("gray16le").

    Raises:
        ValueError: the file is damaged, or of another kind.
    """
    if not content.endswith(_ENDS[kind]):
        raise ValueError("it is truncated, or not an image of this kind")
    context = open_decoder(find_decoder(_DECODERS[kind]), threads=1, hints={})
    try:
        packet: av.Packet[Any] = av.Packet(content)
        frames = [*context.decode(packet), *context.decode(None)]
    except av.FFmpegError as error:
        raise ValueError(f"it is damaged ({error})") from error
    finally:
        wait_until_idle(context)
    if len(frames) != 1:
        raise ValueError(f"it holds {len(frames)} pictures")
    name = frames[0].format.name
    form = {"gray": "gray", "gray16be": "gray16le", "gray16le": "gray16le"}.get(name, "bgr24")
    return np.ascontiguousarray(frames[0].to_ndarray(format=form)), form
