"""Parameters: codec parameters of a stream, as metadata for a decoder elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeGuard

from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.stream import VideoStream

PARAMETERS = (
    "extradata",
    "width",
    "height",
    "reorder_depth",
    "color",
    "codec_tag",
    "pix_fmt",
    "bits_per_coded_sample",
    "field_order",
    "sample_aspect_ratio",
    "display_matrix",
)
"""Keys of the codec parameters in a packet's metadata."""

REOPEN = frozenset({"extradata", "codec_tag", "pix_fmt", "bits_per_coded_sample"})
"""Parameters whose change requires a new decoder."""

_MAX_EXTRADATA_BYTES = 1 << 20
_MAX_SIDE = 16384
_NO_COLOR = [0, 2, 2, 2]  # libav's numbers for "not specified"


def parameters_of(stream: VideoStream, *, in_band: bool) -> dict[str, Any]:
    """Return the known codec parameters of a stream as plain values.

    Args:
        stream: A stream of a container that is open for reading.
        in_band: Whether the packets contain the extradata.
    """
    found = parameters_in(stream.codec_context)
    if in_band:
        found.pop("extradata", None)
    ratio = stream.sample_aspect_ratio
    if ratio:
        found["sample_aspect_ratio"] = [ratio.numerator, ratio.denominator]
    return found


def parameters_in(context: VideoCodecContext) -> dict[str, Any]:
    """Return the known codec parameters of a context as plain values, without its size."""
    found: dict[str, Any] = {}
    if context.extradata:
        found["extradata"] = context.extradata
    if context.reorder_depth:
        found["reorder_depth"] = context.reorder_depth
    color = [int(context.color_range), int(context.color_primaries), int(context.color_trc), int(context.colorspace)]
    if color != _NO_COLOR:
        found["color"] = color
    try:
        tag = context.codec_tag
    except UnicodeDecodeError:  # PyAV can neither read nor set it
        tag = ""
    if tag.strip("\x00"):
        found["codec_tag"] = tag
    if context.pix_fmt:
        found["pix_fmt"] = context.pix_fmt
    if context.bits_per_coded_sample:
        found["bits_per_coded_sample"] = context.bits_per_coded_sample
    if context.field_order:
        found["field_order"] = int(context.field_order)
    return found


def apply(context: VideoCodecContext, parameters: Mapping[str, Any]) -> None:
    """Set parameters on a decoder that is not open. They come from untrusted packets: malformed ones are ignored.

    `extradata` (bytes), `width`, `height` (pixels), `reorder_depth` (frames), `color` (four ints: range, primaries,
    transfer, matrix), `codec_tag` (four characters), `pix_fmt` (libav's name), `bits_per_coded_sample`,
    `field_order` (libav's number), `sample_aspect_ratio` (two ints).
    """
    width, height = parameters.get("width"), parameters.get("height")
    if _is_int(width, 1, _MAX_SIDE) and _is_int(height, 1, _MAX_SIDE):
        context.width, context.height = width, height
    for name, setter in _SETTERS.items():
        value = parameters.get(name)
        if value is not None:
            setter(context, value)


def _extradata(context: VideoCodecContext, value: Any) -> None:
    if isinstance(value, bytes | bytearray | memoryview) and 0 < len(value) <= _MAX_EXTRADATA_BYTES:
        context.extradata = bytes(value)


def _depth(context: VideoCodecContext, value: Any) -> None:
    if _is_int(value, 0, 16):
        context.reorder_depth = value


def _color(context: VideoCodecContext, value: Any) -> None:
    if isinstance(value, list | tuple) and len(value) == 4 and all(_is_int(part, 0, 255) for part in value):
        context.color_range, context.color_primaries, context.color_trc, context.colorspace = value


def _codec_tag(context: VideoCodecContext, value: Any) -> None:
    if isinstance(value, str) and len(value) == 4 and value.isascii():
        context.codec_tag = value


def _pix_fmt(context: VideoCodecContext, value: Any) -> None:
    try:
        if isinstance(value, str):
            VideoFormat(value)
            context.pix_fmt = value
    except ValueError:
        return


def _bits(context: VideoCodecContext, value: Any) -> None:
    if _is_int(value, 1, 128):
        context.bits_per_coded_sample = value


def _field_order(context: VideoCodecContext, value: Any) -> None:
    if _is_int(value, 0, 5):
        context.field_order = value


def _aspect(context: VideoCodecContext, value: Any) -> None:
    ratio = as_ratio(value)
    if ratio is not None:
        context.sample_aspect_ratio = ratio


_SETTERS: dict[str, Callable[[VideoCodecContext, Any], None]] = {
    "extradata": _extradata,
    "reorder_depth": _depth,
    "color": _color,
    "codec_tag": _codec_tag,
    "pix_fmt": _pix_fmt,
    "bits_per_coded_sample": _bits,
    "field_order": _field_order,
    "sample_aspect_ratio": _aspect,
}


def as_ratio(value: Any) -> Fraction | None:
    """Return two positive ints as a fraction, or None for anything else."""
    if isinstance(value, list | tuple) and len(value) == 2 and all(_is_int(part, 1, 1 << 30) for part in value):
        return Fraction(value[0], value[1])
    return None


def _is_int(value: Any, low: int, high: int) -> TypeGuard[int]:
    return type(value) is int and low <= value <= high
