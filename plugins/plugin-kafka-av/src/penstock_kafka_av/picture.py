"""A short test video, and a contact sheet of frames."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from penstock.whole_files import write_whole
from penstock_kafka_av.context import new_context
from penstock_kafka_av.encoder import H264, picture_frame


@overload
def encode_test_picture(
    path: None = None, *, frames: int = 150, size: tuple[int, int] = (320, 240), rate: int = 30, bframes: int = 2
) -> bytes: ...
@overload
def encode_test_picture(
    path: str | os.PathLike[str],
    *,
    frames: int = 150,
    size: tuple[int, int] = (320, 240),
    rate: int = 30,
    bframes: int = 2,
) -> Path: ...
def encode_test_picture(
    path: str | os.PathLike[str] | None = None,
    *,
    frames: int = 150,
    size: tuple[int, int] = (320, 240),
    rate: int = 30,
    bframes: int = 2,
) -> Path | bytes:
    """Encode a moving test picture as H.264 in MP4; return its path, or without a path its bytes.

    Args:
        path: Path of the file, which is written atomically and replaces an existing one.
        frames: Number of frames, 1 or more.
        size: Width and height in pixels, even numbers from 16 to 8192.
        rate: Frames per second; there is a keyframe every second.
        bframes: Maximum number of consecutive B-frames, 0 to 16.

    Raises:
        ConfigError: this build of PyAV has no H.264 encoder, or a number is out of range.
        OSError: the file cannot be written.
    """
    width, height = size
    settings = H264(width=width, height=height, rate=rate, bframes=bframes, keyframe_every=rate)
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream(settings.codec(), rate=rate)
        assert isinstance(stream, VideoStream)
        settings.apply(stream.codec_context)
        for number in range(frames):
            container.mux(stream.encode(picture_frame(number, width=width, height=height)))
        container.mux(stream.encode(None))
    return memory.getvalue() if path is None else _written(Path(path), memory.getvalue())


def contact_sheet(
    frames: Sequence[NDArray[np.uint8]],
    path: str | os.PathLike[str],
    *,
    columns: int | None = None,
    pixel_format: str = "bgr24",
) -> Path:
    """Write these pictures side by side into one PNG file; return its path.

    Args:
        frames: One or more arrays, (height, width, 3) or (height, width) uint8; cells are as large as the largest.
        path: Path of the file, which is written atomically and replaces an existing one.
        columns: Pictures per row; None makes about as many rows as columns.
        pixel_format: Order of the colour channels: "bgr24" (the decoder's default) or "rgb24".

    Raises:
        ValueError: there are no pictures, or an array is not a picture.
        OSError: the file cannot be written.
    """
    if not frames:
        raise ValueError("contact sheet: there are no pictures; give at least one")
    if columns is not None and columns < 1:
        raise ValueError(f"contact sheet: columns={columns}: must be 1 or more")
    pictures = [_rgb(frame, pixel_format) for frame in frames]
    columns = min(len(pictures), columns or math.ceil(math.sqrt(len(pictures))))
    height = max(picture.shape[0] for picture in pictures) + _BORDER
    width = max(picture.shape[1] for picture in pictures) + _BORDER
    rows = math.ceil(len(pictures) / columns)
    sheet = np.full((rows * height + _BORDER, columns * width + _BORDER, 3), _GREY, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * height + _BORDER, number % columns * width + _BORDER
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return _written(Path(path), encode_png(sheet))


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """Return a (height, width, 3) uint8 array in RGB order as a PNG file."""
    context = new_context("png", "w")
    context.height, context.width = picture.shape[:2]
    context.pix_fmt = "rgb24"
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))


_BORDER, _GREY = 4, 32


def _rgb(frame: Any, pixel_format: str) -> NDArray[np.uint8]:
    picture = np.asarray(frame)
    if picture.dtype != np.uint8 or not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)):
        raise ValueError(
            f"contact sheet: an array of {picture.dtype} {picture.shape} is not a picture; "
            "give uint8 (height, width) or (height, width, 3)"
        )
    if picture.ndim == 2:
        return np.repeat(picture[:, :, None], 3, axis=2)
    return picture[:, :, ::-1] if pixel_format == "bgr24" else picture


def _written(path: Path, data: bytes) -> Path:
    write_whole(path, data)
    return path
