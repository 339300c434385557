"""Pixel formats: converts frames of libav to arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame, supported_np_pix_fmts
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from penstock.errors import ConfigError


def check_pixel_format(name: str) -> None:
    """Raise ConfigError if PyAV cannot convert frames of this format to arrays."""
    try:
        VideoFormat(name)
        known = name in supported_np_pix_fmts
    except ValueError:
        known = False
    if not known or name == "pal8":  # pal8 is an array and a palette
        raise ConfigError(
            f"pixel_format={name!r}: PyAV cannot convert it to arrays; use 'bgr24', 'rgb24', 'gray' or 'yuv420p'"
        )


class Converter:
    """Convert the frames of one channel to arrays, with one libav converter for all of them."""

    def __init__(self, pixel_format: str) -> None:
        """Store the pixel format of the arrays."""
        self.pixel_format = pixel_format
        self._reformatter: VideoReformatter | None = None

    def to_array(self, frame: VideoFrame, *, threads: int) -> NDArray[Any]:
        """Return the frame as a C-contiguous array owned by the caller: (height, width, 3) uint8 for "bgr24".

        Raises:
            ValueError: the frame cannot be converted (odd width for "yuv420p").
        """
        reformatter = self._reformatter
        if reformatter is None:
            reformatter = self._reformatter = VideoReformatter()
        try:
            converted = reformatter.reformat(frame, format=self.pixel_format, threads=threads)
            array = converted.to_ndarray()
        except AssertionError as error:
            raise ValueError(str(error)) from error
        if converted is frame:  # the decoder's own picture, which later frames may refer to
            return array.copy()
        return np.ascontiguousarray(array)

    def rest(self) -> None:
        """Free libav's converter with its threads; the next frame creates a new one."""
        self._reformatter = None
