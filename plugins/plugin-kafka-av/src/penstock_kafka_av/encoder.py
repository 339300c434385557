"""A moving test picture, drawn and encoded frame by frame."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import attrs
import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from penstock.errors import ConfigError
from penstock.short_text import short
from penstock_kafka_av.context import new_context


def draw_test_picture(number: int, *, width: int, height: int) -> NDArray[np.uint8]:
    """Return picture `number` as (height, width, 3) uint8 in RGB order: a disc that bounces over a still gradient.

    The same number gives the same picture. A row of 16 squares at the top shows the number in binary, the highest bit
    first, white for 1 and black for 0.
    """
    across, down = np.linspace(0, 1, width, dtype=np.float32), np.linspace(0, 1, height, dtype=np.float32)[:, None]
    picture = np.empty((height, width, 3), dtype=np.uint8)
    picture[..., 0] = 40 + 80 * across
    picture[..., 1] = 50 + 60 * down
    picture[..., 2] = 110 - 40 * across * down
    radius = max(2, min(width, height) // 8)
    x, y = _bounce(number * width / 90, radius, width), _bounce(number * height / 60, radius, height)
    rows, columns = np.ogrid[:height, :width]
    picture[(columns - x) ** 2 + (rows - y) ** 2 <= radius**2] = (250, 180, 40)
    side = max(1, width // 20)
    for bit in range(16):
        left = (bit + 2) * side
        picture[side // 2 : side // 2 + side, left : left + side] = 255 if number >> (15 - bit) & 1 else 0
    return picture


def _bounce(way: float, margin: int, length: int) -> float:
    room = max(1.0, length - 2.0 * margin)
    at = way % (2 * room)
    return margin + (at if at < room else 2 * room - at)


def _from(low: int, high: int) -> Any:
    def check(_: object, field: attrs.Attribute[int], value: object) -> None:
        if type(value) is not int or not low <= value <= high:
            raise ConfigError(f"test picture: {field.name}={short(value)}: must be a whole number from {low} to {high}")

    return check


def _even(_: object, field: attrs.Attribute[int], value: int) -> None:
    if value % 2:
        raise ConfigError(f"test picture: {field.name}={value}: must be even, since yuv420p halves the chroma planes")


@attrs.frozen(kw_only=True)
class H264:
    """Settings of the encoder: one thread, a short look-ahead, keyframes only where requested.

    Attributes:
        width: Pixels, even, 16 to 8192.
        height: Pixels, even, 16 to 8192.
        rate: Frames per second, 1 to 1000.
        bframes: Maximum number of consecutive B-frames, 0 to 16.
        keyframe_every: Frames from one keyframe to the next, 1 to 10000.
    """

    width: int = attrs.field(validator=[_from(16, 8192), _even])
    height: int = attrs.field(validator=[_from(16, 8192), _even])
    rate: int = attrs.field(validator=_from(1, 1000))
    bframes: int = attrs.field(validator=_from(0, 16))
    keyframe_every: int = attrs.field(validator=_from(1, 10_000))

    def codec(self) -> str:
        """Return the name of the encoder. Raises ConfigError if this build of PyAV has no H.264 encoder."""
        try:
            return av.Codec("libx264", "w").name
        except ValueError as error:
            raise ConfigError(
                "test picture: this build of PyAV cannot encode H.264 (it has no libx264); "
                "use a video file instead, or install the wheel: pip install --only-binary av --force-reinstall av"
            ) from error

    def apply(self, context: VideoCodecContext) -> None:
        """Apply the settings to an encoder that is not open."""
        context.width, context.height, context.pix_fmt = self.width, self.height, "yuv420p"
        context.framerate, context.time_base = Fraction(self.rate), Fraction(1, self.rate)
        context.gop_size, context.max_b_frames, context.thread_count = self.keyframe_every, self.bframes, 1
        # the encoder buffers its look-ahead: a short one bounds memory and delay
        context.options = {"preset": "veryfast", "sc_threshold": "0", "rc-lookahead": "10", "forced-idr": "1"}

    def open(self) -> VideoCodecContext:
        """Return an encoder whose packets are Annex B, with parameter sets before each keyframe."""
        context = new_context(self.codec(), "w")
        self.apply(context)
        return context


def picture_frame(number: int, *, width: int, height: int) -> VideoFrame:
    """Return picture `number` as an rgb24 frame of libav, with its number as pts."""
    frame = VideoFrame.from_ndarray(draw_test_picture(number, width=width, height=height), format="rgb24")
    frame.pts = number
    return frame
