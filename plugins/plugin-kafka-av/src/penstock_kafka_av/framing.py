"""Framing: makes records from decoded frames."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import attrs
import av
from av.video.frame import VideoFrame

from penstock.errors import DecodeError
from penstock.identity import part_number
from penstock.record import Record
from penstock_kafka_av.display import about, matrix_in, matrix_of, ratio_of, turned
from penstock_kafka_av.lazy import LAZY, LazyConverters, LazyPicture
from penstock_kafka_av.parameters import PARAMETERS
from penstock_kafka_av.pixels import Converter

_LEFT_OUT = frozenset({*PARAMETERS, "discard", "dts", "side_data"})


@attrs.define
class Framing:
    """Make a record from each frame.

    Attributes:
        pixel_format: Pixel format of the arrays, or "lazy".
        rotate: Whether pictures are rotated and mirrored according to their display matrix.
    """

    pixel_format: str
    rotate: bool
    _converter: Converter = attrs.field(init=False)
    _lazy: LazyConverters | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Create the converter."""
        self._converter = Converter(self.pixel_format)
        self._lazy = LazyConverters() if self.pixel_format == LAZY else None

    def rest(self) -> None:
        """Free the threads of the converter."""
        self._converter.rest()
        if self._lazy is not None:
            self._lazy.rest()

    def part(self, record: Record, number: int) -> int:
        """Return the `seq` of the `number`-th packet that begins in a record of a "stream"."""
        return part_number(record.channel, record.seq, number)

    def record_of(
        self,
        frame: VideoFrame,
        packet: Record,
        *,
        number: int,
        seq: int,
        time_ns: int,
        discontinuity: bool,
        hints: Mapping[str, Any],
        ratio: Fraction | None,
        threads: int,
    ) -> Record:
        """Return the record of a frame. Raises DecodeError if the frame cannot be converted to an array.

        Args:
            frame: The decoded frame.
            packet: The record of its packet; the new record's `parent`.
            number: Index of its packet among those that begin in that record.
            seq: Its number in the channel.
            time_ns: Its presentation time, in nanoseconds since 1970.
            discontinuity: Whether it does not continue the previous frame.
            hints: The codec parameters of the stream.
            ratio: The aspect ratio of a pixel according to the codec.
            threads: Number of threads for the conversion.
        """
        matrix = matrix_of(hints.get("display_matrix")) or matrix_in(frame)
        array: Any
        try:
            if self._lazy is not None:
                array = LazyPicture(frame, self._lazy)
            else:
                array = self._converter.to_array(frame, threads=threads)
        except (ValueError, av.FFmpegError) as error:
            size = f"{frame.width}x{frame.height} {frame.format.name}"
            raise DecodeError(
                f"av decoder, packet {packet.seq} of channel {packet.channel!r}: cannot convert a frame of {size} to "
                f"{self.pixel_format!r}: {error}"
            ) from error
        metadata = {key: value for key, value in packet.metadata.items() if key not in _LEFT_OUT}
        if number:
            metadata.pop("pts", None)
        metadata["is_keyframe"] = bool(frame.key_frame)
        metadata["width"], metadata["height"] = frame.width, frame.height
        metadata["pixel_format"] = self.pixel_format
        shown = about(frame, matrix=matrix, ratio=ratio_of(hints, ratio), order=hints.get("field_order"))
        metadata.update(shown)
        if self.rotate and matrix is not None:
            array = turned(array, matrix)
            metadata.pop("display_matrix")
            metadata["rotation"] = 0
            if array.shape[:2] != (frame.height, frame.width):
                metadata["height"], metadata["width"] = array.shape[:2]
                metadata["sample_aspect_ratio"] = shown["sample_aspect_ratio"][::-1]
        if frame.is_corrupt:
            metadata["corrupt"] = True
        return Record(
            data=array,
            channel=packet.channel,
            seq=seq,
            time_ns=time_ns,
            coords=packet.coords,
            metadata=metadata,
            parent=packet,
            discontinuity=discontinuity,
        )
