"""Pixel formats: frames of libav as arrays."""

from __future__ import annotations

from typing import Any

import av.video.frame
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from penstock.errors import ConfigError

# av 14 does not have it; what cannot be converted shows at the first frame then
_SUPPORTED: set[str] | None = getattr(av.video.frame, "supported_np_pix_fmts", None)

_HAS_THREADS = "threads" in (VideoReformatter.reformat.__doc__ or "")  # those of before 17 have none


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


class Converter:
    """Make arrays of the frames of one channel: one converter of libav for all, with as many threads as decode."""

    def __init__(self, pixel_format: str) -> None:
        """Take what the arrays shall hold."""
        self.pixel_format = pixel_format
        self._reformatter: VideoReformatter | None = None

    def to_array(self, frame: VideoFrame, *, threads: int) -> NDArray[Any]:
        """Return the picture as a C-contiguous array: (height, width, 3) uint8 for "bgr24"; it belongs to the caller.

        Raises:
            ValueError: the frame cannot be converted (odd width for "yuv420p").
        """
        reformatter = self._reformatter
        if reformatter is None:
            reformatter = self._reformatter = VideoReformatter()
        try:
            if _HAS_THREADS:
                converted = reformatter.reformat(frame, format=self.pixel_format, threads=threads)
            else:
                converted = reformatter.reformat(frame, format=self.pixel_format)
            array = converted.to_ndarray()
        except AssertionError as error:
            raise ValueError(str(error)) from error
        if converted is frame:  # it is the decoder's own picture, which others may refer to
            return array.copy()
        return np.ascontiguousarray(array)

    def rest(self) -> None:
        """Let the converter of libav go, with its threads; the next frame makes another."""
        self._reformatter = None
