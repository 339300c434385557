"""Pixel formats: frames of libav as arrays."""

from __future__ import annotations

from typing import Any

import av.video.frame
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from penstock.errors import ConfigError

# av 14 does not have it; what cannot be converted shows at the first frame then
_SUPPORTED: set[str] | None = getattr(av.video.frame, "supported_np_pix_fmts", None)


def check_pixel_format(name: str) -> None:
    """Raise ConfigError if no array can be made of frames in this format."""
    try:
        VideoFormat(name)
        known = _SUPPORTED is None or name in _SUPPORTED
    except ValueError:
        known = False
    if not known or name == "pal8":  # pal8 is an array and a palette
        raise ConfigError(
            f"pixel_format={name!r}: PyAV makes no array of it; use 'bgr24', 'rgb24', 'gray' or 'yuv420p'"
        )


def to_array(frame: VideoFrame, pixel_format: str) -> NDArray[Any]:
    """Return the picture as a C-contiguous array: (height, width, 3) uint8 for "bgr24"; it belongs to the caller.

    Raises:
        ValueError: the frame cannot be converted (odd width for "yuv420p").
    """
    try:
        return np.ascontiguousarray(frame.to_ndarray(format=pixel_format))
    except AssertionError as error:
        raise ValueError(str(error)) from error
