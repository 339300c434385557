"""LazyPicture: a decoded picture that is converted to an array on request."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from penstock_kafka_av.pixels import Converter

LAZY = "lazy"
"""The `pixel_format` of a decoder that does not convert pictures."""

_FORMAT = "bgr24"


class LazyPicture:
    """A picture in libav's pixel format; `numpy.asarray(picture)` is (height, width, 3) uint8 in BGR order.

    For code that needs only a few of many pictures, since conversion takes most of the time. It cannot leave its
    process: convert it to an array before writing or sending it. May be used from any thread.
    """

    __slots__ = ("_converters", "_frame")

    def __init__(self, frame: VideoFrame, converters: LazyConverters) -> None:
        """Store a frame and the converters of its channel."""
        self._frame, self._converters = frame, converters

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the array: (height, width, 3)."""
        return (self._frame.height, self._frame.width, 3)

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """Dtype of the array: uint8."""
        return np.dtype(np.uint8)

    @property
    def nbytes(self) -> int:
        """Size of the decoded planes in bytes."""
        return sum(plane.buffer_size for plane in self._frame.planes)

    def to_array(self, pixel_format: str = _FORMAT) -> NDArray[Any]:
        """Return the pixels as a new array, in the shape and dtype of a decoder with this `pixel_format`.

        Raises:
            ValueError: the picture cannot be converted to this format.
        """
        return self._converters.to_array(self._frame, pixel_format)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the pixels for NumPy. Raises ValueError if `copy` is False."""
        if copy is False:
            raise ValueError("a lazy picture has no array yet; allow a copy")
        array = self.to_array()
        return array if dtype is None else array.astype(dtype)


class LazyConverters:
    """Convert the pictures of one channel, one at a time, for any number of threads."""

    def __init__(self) -> None:
        """Start without converters."""
        self._lock = threading.Lock()
        self._converters: dict[str, Converter] = {}

    def to_array(self, frame: VideoFrame, pixel_format: str) -> NDArray[Any]:
        """Return a frame as an array. Raises ValueError."""
        with self._lock:
            converter = self._converters.get(pixel_format)
            if converter is None:
                converter = self._converters[pixel_format] = Converter(pixel_format)
            return converter.to_array(frame, threads=1)

    def rest(self) -> None:
        """Free the converters; the next picture creates new ones."""
        with self._lock:
            self._converters.clear()
