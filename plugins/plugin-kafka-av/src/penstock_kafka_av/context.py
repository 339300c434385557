"""Open libav's decoders by name, and say in one sentence why one cannot be opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import av
import av.codec
from av.video.codeccontext import VideoCodecContext

MAX_PIXELS = 1 << 27
"""Larger pictures are refused: what a stranger's packet claims must not decide how much memory is taken."""

_MAX_EXTRADATA_BYTES = 1 << 20

# A name that libav also has a decoder for which only works with hardware.
_SOFTWARE = {"av1": ("libdav1d", "libaom-av1")}


def find_decoder(name: str) -> av.Codec:
    """Return libav's decoder of this name.

    Raises:
        ValueError: there is none, or it is not for video.
    """
    for candidate in (*_SOFTWARE.get(name, ()), name):
        try:
            codec = av.Codec(candidate, "r")
        except ValueError:  # av's UnknownCodecError is one
            continue
        if codec.type != "video":
            raise ValueError(f"codec {name!r} is for {codec.type}, not for video")
        return codec
    raise ValueError(f"codec {name!r} is not known to this libav; known are such as 'h264', 'hevc', 'mjpeg', 'vp9'")


def new_context(codec: av.Codec | str, mode: Literal["r", "w"]) -> VideoCodecContext:
    """Return a decoder ("r") or encoder ("w") for video, not open yet. Raises ValueError if there is none."""
    context = av.CodecContext.create(codec, mode)
    if not isinstance(context, VideoCodecContext):
        raise ValueError(f"codec {codec if isinstance(codec, str) else codec.name!r} is not for video")
    return context


def open_decoder(
    codec: av.Codec,
    *,
    threads: int = 0,
    thread_type: Literal["slice", "frame", "auto"] = "slice",
    strict: bool = True,
    hints: Mapping[str, Any],
) -> VideoCodecContext:
    """Return a decoder that waits for its first packet.

    Args:
        codec: What `find_decoder` gave.
        threads: 0 takes one for each processor.
        thread_type: "frame" decodes several frames at once and delays each by as many.
        strict: True makes libav report damage instead of painting over it.
        hints: `extradata` (bytes), `width`, `height` (pixels), `reorder_depth` (frames), `color` (four ints: range,
            primaries, transfer, matrix), as a packet's metadata has them; not trusted: anything else is left out.
    """
    context = new_context(codec, "r")
    context.thread_count = threads
    context.thread_type = thread_type.upper()
    damage = {"err_detect": "crccheck+explode"} if strict else {"flags": "+output_corrupt"}
    context.options = {"max_pixels": str(MAX_PIXELS), **damage}
    extradata = hints.get("extradata")
    if isinstance(extradata, bytes | bytearray | memoryview) and 0 < len(extradata) <= _MAX_EXTRADATA_BYTES:
        context.extradata = bytes(extradata)
    width, height = hints.get("width"), hints.get("height")
    if isinstance(width, int) and isinstance(height, int) and 0 < width <= 16384 and 0 < height <= 16384:
        context.width, context.height = width, height
    depth = hints.get("reorder_depth")
    if type(depth) is int and 0 <= depth <= 16 and hasattr(context, "reorder_depth"):
        context.reorder_depth = depth
    color = hints.get("color")
    if isinstance(color, list | tuple) and len(color) == 4 and all(type(c) is int and 0 <= c < 256 for c in color):
        context.color_range, context.color_primaries, context.color_trc, context.colorspace = color
    return context
