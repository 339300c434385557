"""Find and open libav's decoders by name, with one-sentence errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import av
import av.codec
from av.video.codeccontext import VideoCodecContext

from penstock_kafka_av.parameters import apply

MAX_PIXELS = 1 << 27
"""Limit of the picture size: an untrusted packet must not decide how much memory is allocated."""

# Software decoders for names under which libav also has a decoder that requires hardware.
_SOFTWARE = {"av1": ("libdav1d", "libaom-av1")}


def find_decoder(name: str) -> av.Codec:
    """Return libav's decoder of this name.

    Raises:
        ValueError: libav has no such decoder, or it is not for video.
    """
    for candidate in (*_SOFTWARE.get(name, ()), name):
        try:
            codec = av.Codec(candidate, "r")
        except ValueError:  # UnknownCodecError derives from it
            continue
        if codec.type != "video":
            raise ValueError(f"codec {name!r} is for {codec.type}, not for video")
        return codec
    raise ValueError(
        f"codec {name!r} is not known to this libav; use a known one, such as 'h264', 'hevc', 'mjpeg', 'vp9'"
    )


def new_context(codec: av.Codec | str, mode: Literal["r", "w"]) -> VideoCodecContext:
    """Return a decoder ("r") or encoder ("w") for video, not open yet. Raises ValueError if libav has none."""
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
    """Return a decoder that is ready for its first packet.

    Args:
        codec: The codec returned by `find_decoder`.
        context: A decoder on a device, to be used instead of a new one in software.
        threads: Number of threads; 0 uses one per processor.
        thread_type: "frame" decodes several frames at once and delays each by as many.
        strict: True makes libav report damage instead of concealing it.
        skip_frame: The kind of frames that libav leaves out, "NONREF" or "NONKEY"; None for none.
        hints: The codec parameters from the packets' metadata; see `penstock_kafka_av.parameters.apply`.
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


def wait_until_idle(context: VideoCodecContext | None) -> None:
    """Wait until the threads of a decoder are idle, before it is freed; no-op for None.

    Freeing a decoder waits for its threads while it holds the GIL; a busy thread that logs an error waits for the GIL:
    a deadlock (PyAV 18).
    """
    if context is not None and context.is_open:
        context.flush_buffers()
