"""Display: a frame's display properties, and rotation according to its display matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from penstock.errors import ConfigError
from penstock_kafka_av.parameters import as_ratio

Matrix = tuple[int, ...]
"""Nine ints, row by row, as in ISO/IEC 14496-12 8.3.2: the first two of each row are 16.16 fixed point."""

_ONE, _W = 1 << 16, 1 << 30
_ROTATED: dict[int, Matrix] = {
    90: (0, -_ONE, 0, _ONE, 0, 0, 0, 0, _W),
    180: (-_ONE, 0, 0, 0, -_ONE, 0, 0, 0, _W),
    -180: (-_ONE, 0, 0, 0, -_ONE, 0, 0, 0, _W),
    -90: (0, _ONE, 0, -_ONE, 0, 0, 0, 0, _W),
}
_SIDE_DATA = "DISPLAYMATRIX"
_FIELD_ORDERS = {1: "progressive", 2: "tt", 3: "bb", 4: "tb", 5: "bt"}


def matrix_in(frame: VideoFrame, *, always: bool = False) -> Matrix | None:
    """Return the display matrix of a frame if it rotates the picture (or `always`)."""
    # reading side data creates a reference cycle, which keeps the frame until the garbage collector runs
    if not always and not frame.rotation:
        return None
    try:
        data: Any = frame.side_data.get(_SIDE_DATA)
    except ValueError:  # PyAV 18 fails on unknown kinds of side data; the rotation works
        return _ROTATED.get(frame.rotation)
    return None if data is None else tuple(int(part) for part in np.frombuffer(bytes(data), dtype=np.int32, count=9))


def matrix_of(value: Any) -> Matrix | None:
    """Return the display matrix in a packet's metadata, or None if it is missing or malformed."""
    if not isinstance(value, list | tuple) or len(value) != 9:
        return None
    if not all(type(part) is int and abs(part) < 1 << 31 for part in value):
        return None
    return tuple(value)


def rotation_of(matrix: Matrix | None) -> int:
    """Return the counterclockwise rotation for display, in degrees from -180 to 180."""
    if matrix is None:
        return 0
    a, b, _, c, d = matrix[:5]
    across, down = math.hypot(a, c), math.hypot(b, d)
    if not across or not down:
        return 0
    return int(-math.degrees(math.atan2(b / down, a / across)))


def about(frame: VideoFrame, *, matrix: Matrix | None, ratio: Fraction | None, order: Any) -> dict[str, Any]:
    """Return a frame's display properties as metadata; the colour numbers are those of ITU-T H.273.

    Args:
        frame: The picture.
        matrix: Its display matrix, or None.
        ratio: Width of a pixel divided by its height; None if unknown.
        order: Field order, as libav's number.
    """
    found: dict[str, Any] = {
        "rotation": rotation_of(matrix),
        "sample_aspect_ratio": [ratio.numerator, ratio.denominator] if ratio else [1, 1],
        "interlaced": frame.interlaced_frame,
        "color_range": int(frame.color_range),
        "color_primaries": int(frame.color_primaries),
        "color_trc": int(frame.color_trc),
        "colorspace": int(frame.colorspace),
    }
    if order in _FIELD_ORDERS:
        found["field_order"] = _FIELD_ORDERS[order]
    if matrix is not None:
        found["display_matrix"] = list(matrix)
    return found


def ratio_of(metadata: Mapping[str, Any], decoded: Fraction | None) -> Fraction | None:
    """Return the aspect ratio of a pixel: the container's, else the codec's, else None."""
    return as_ratio(metadata.get("sample_aspect_ratio")) or (decoded or None)


def check_can_turn(pixel_format: str) -> None:
    """Raise ConfigError if arrays of this format are not rows of pixels, and so cannot be rotated."""
    if pixel_format == "lazy":
        raise ConfigError(
            "av decoder: rotate=True needs arrays, and pixel_format='lazy' returns none; choose one of them"
        )
    form = VideoFormat(pixel_format)
    if not form.is_rgb and not pixel_format.startswith("gray"):
        raise ConfigError(
            f"av decoder: rotate=True does not support pixel_format={pixel_format!r}, whose chroma is subsampled; "
            "use 'bgr24', 'rgb24' or 'gray'"
        )


def turned(picture: NDArray[Any], matrix: Matrix | None) -> NDArray[Any]:
    """Return a picture, (height, width, …), rotated by multiples of 90 degrees and mirrored for display.

    The result is C-contiguous. A matrix that is None or rotates by other angles leaves the picture unchanged.
    """
    if matrix is None:
        return picture
    a, b, _, c, d = matrix[:5]
    if not a and not d and b and c:
        picture = picture.swapaxes(0, 1)
        down, across = b, c
    elif not b and not c and a and d:
        down, across = d, a
    else:
        return picture
    if down < 0:
        picture = picture[::-1]
    if across < 0:
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)
