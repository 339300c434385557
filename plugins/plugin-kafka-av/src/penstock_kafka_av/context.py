"""Open libav's decoders by name, and say in one sentence why one cannot be opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import av
import av.codec
from av.video.codeccontext import VideoCodecContext

from penstock_kafka_av.parameters import apply

MAX_PIXELS = 1 << 27
"""Larger pictures are refused: what a stranger's packet claims must not decide how much memory is taken."""

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
    context: VideoCodecContext | None = None,
    threads: int = 0,
    thread_type: Literal["slice", "frame", "auto"] = "slice",
    strict: bool = True,
    skip_frame: Any = None,
    hints: Mapping[str, Any],
) -> VideoCodecContext:
    """Return a decoder that waits for its first packet.

    Args:
        codec: What `find_decoder` gave.
        context: A decoder on a device, in place of libav's own for this codec.
        threads: 0 takes one for each processor.
        thread_type: "frame" decodes several frames at once and delays each by as many.
        strict: True makes libav report damage instead of painting over it.
        skip_frame: "NONREF" or "NONKEY": pictures that libav leaves out; None: none.
        hints: The codec parameters that came with the packets; see `penstock_kafka_av.parameters.apply`.
    """
    context = context or new_context(codec, "r")
    context.thread_count = threads
    context.thread_type = thread_type.upper()
    damage = {"err_detect": "crccheck+explode"} if strict else {"flags": "+output_corrupt"}
    context.options = {"max_pixels": str(MAX_PIXELS), **damage}
    if skip_frame is not None:
        context.skip_frame = skip_frame
    apply(context, hints)
    return context


def let_go(context: VideoCodecContext | None) -> None:
    """Wait until the threads of a decoder rest, before it is freed.

    Freeing holds Python's lock and waits for the threads; one that still works, and wants to log an error, waits for
    the lock (PyAV 18).
    """
    if context is not None and context.is_open:
        context.flush_buffers()
