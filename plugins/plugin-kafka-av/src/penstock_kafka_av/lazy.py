"""LazyPicture: a decoded picture that becomes an array when somebody asks for its pixels."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from penstock_kafka_av.pixels import Converter

LAZY = "lazy"
"""The `pixel_format` of a decoder that leaves pictures as they are."""

_FORMAT = "bgr24"


class LazyPicture:
    """Hold a picture as libav decoded it; `numpy.asarray(picture)` is (height, width, 3) uint8 in BGR order.

    For code that looks at a few pictures of many: most of the time is spent on conversion. It stays in its process:
    what is written or sent has to be an array before. May be used from any thread.
    """

    __slots__ = ("_converters", "_frame")

    def __init__(self, frame: VideoFrame, converters: LazyConverters) -> None:
        """Take a frame, and what converts those of its channel."""
        self._frame, self._converters = frame, converters

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of the array: height, width, 3."""
        return (self._frame.height, self._frame.width, 3)

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """That of the array."""
        return np.dtype(np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes that the picture takes as it is."""
        return sum(plane.buffer_size for plane in self._frame.planes)

    def to_array(self, pixel_format: str = _FORMAT) -> NDArray[Any]:
        """Return the pixels, as a decoder with this `pixel_format` gives them; a new array at each call.

        Raises:
            ValueError: it cannot be converted.
        """
        return self._converters.to_array(self._frame, pixel_format)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the pixels for numpy."""
        if copy is False:
            raise ValueError("a lazy picture has no array yet; allow a copy")
        array = self.to_array()
        return array if dtype is None else array.astype(dtype)


class LazyConverters:
    """Convert the pictures of one channel, for several threads one after the other."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._lock = threading.Lock()
        self._converters: dict[str, Converter] = {}

    def to_array(self, frame: VideoFrame, pixel_format: str) -> NDArray[Any]:
        """Return a frame as an array."""
        with self._lock:
            converter = self._converters.get(pixel_format)
            if converter is None:
                converter = self._converters[pixel_format] = Converter(pixel_format)
            return converter.to_array(frame, threads=1)

    def rest(self) -> None:
        """Let the converters go; the next picture makes others."""
        with self._lock:
            self._converters.clear()
