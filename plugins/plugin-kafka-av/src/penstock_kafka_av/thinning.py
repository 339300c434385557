"""Thinning: leaves out frames because of `rate` and `skip`, before decoding if no other frame refers to them."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

import attrs
from av.video.codeccontext import VideoCodecContext

from penstock.record import Record
from penstock_kafka_av.pace import Pace

Skip = Literal["nonref", "nonkey"]

_IN_BITSTREAM = frozenset({"h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video"})
_H264_SLICES = frozenset({1, 2})
_H264_NEVER = frozenset({5, 7, 8, 13, 15, 20})  # keyframes, parameter sets, and slices of other layers
_HEVC_NEVER = range(16, 35)  # random access points, reserved, and parameter sets


@attrs.define
class Thinning:
    """Decide which packets to leave out before decoding, and which frames afterwards, and count both.

    Attributes:
        skip: Kind of frames to leave out.
        pace: Limits the frames per second; None for no limit.
        count: Number of packets whose frames were left out.
    """

    skip: Skip | None = None
    pace: Pace | None = None
    count: int = 0
    _top_layer: int = 0  # the highest temporal sub-layer of HEVC seen

    @property
    def is_on(self) -> bool:
        """Whether any frames are to be left out."""
        return self.skip is not None or self.pace is not None

    @property
    def only_keyframes(self) -> bool:
        """Whether only keyframes are decoded."""
        return self.skip == "nonkey"

    def asks_library(self, codec: str) -> Any:
        """Return the kind of frames that libav must leave out, for codecs that this module cannot parse; else None.

        Args:
            codec: libav's name of the codec.
        """
        return None if self.skip is None or codec in _IN_BITSTREAM else self.skip.upper()

    def leaves_out(
        self,
        codec: str,
        unit: bytes,
        *,
        key: bool | None,
        time_ns: int,
        is_timed: bool,
        is_alone: bool,
        is_annex_b: bool,
    ) -> bool:
        """Return whether a packet need not be decoded; if so, count it.

        Args:
            codec: libav's name of the codec.
            unit: The packet.
            key: Whether it is a keyframe; None if unknown.
            time_ns: The time of the packet, in nanoseconds since 1970.
            is_timed: Whether that is the presentation time of its frame.
            is_alone: Whether the stream has no inter prediction.
            is_annex_b: Whether its units have start codes.
        """
        early = self.pace is not None and is_timed and self.pace.is_early(time_ns)
        is_left_out = (
            (self.skip == "nonkey" and key is False)
            or (early and is_alone)
            or (
                key is not True and (early or self.skip == "nonref") and is_annex_b and self._is_disposable(codec, unit)
            )
        )
        self.count += is_left_out
        return is_left_out

    def note(self, packet: Record) -> None:
        """Note the time of a packet, whether or not it will be decoded."""
        if self.pace is not None:
            self.pace.note(packet.time_ns)
            if self.pace.frame_rate is None:
                self.pace.frame_rate = _rate_in(packet.metadata)

    def note_codec(self, context: VideoCodecContext) -> None:
        """Note the stream's frame rate according to the codec, known since the first packet was decoded."""
        if self.pace is not None and self.pace.frame_rate is None:
            self.pace.frame_rate = context.framerate

    def wants(self, time_ns: int, packet: Record, *, is_key: bool) -> bool:
        """Return whether the decoded frame of a packet is selected; count it if `rate` or `skip` is the reason."""
        is_selected = is_key or not self.only_keyframes
        is_selected = (self.pace is None or self.pace.wants(time_ns)) and is_selected
        if packet.metadata.get("discard") is True:
            return False
        self.count += not is_selected
        return is_selected

    def _is_disposable(self, codec: str, unit: bytes) -> bool:
        """Return whether the packet is marked as one to which no other refers."""
        at = unit.find(b"\x00\x00\x01")
        if codec == "mpeg4":  # ISO/IEC 14496-2, 6.2.5: the coding type of a B-VOP is 2
            at = unit.find(b"\x00\x00\x01\xb6")
            return 0 <= at < len(unit) - 4 and unit[at + 4] >> 6 == 2
        if codec in ("mpeg1video", "mpeg2video"):  # ISO/IEC 13818-2, 6.2.3: picture_coding_type of a B-picture is 3
            at = unit.find(b"\x00\x00\x01\x00")
            return 0 <= at < len(unit) - 5 and unit[at + 5] >> 3 & 7 == 3
        while 0 <= at < len(unit) - 4:
            head = unit[at + 3]
            if codec == "h264":  # ITU-T H.264 7.4.1: nal_ref_idc is 0 if nothing refers to the picture
                if head & 0x1F in _H264_NEVER:
                    return False
                if head & 0x1F in _H264_SLICES:
                    return head >> 5 & 3 == 0
            elif codec == "hevc":
                kind, layer = head >> 1 & 0x3F, (unit[at + 4] & 7) - 1
                if kind in _HEVC_NEVER:
                    return False
                if kind < 16:  # H.265 table 7-1: even types are non-reference within their sub-layer
                    self._top_layer = max(self._top_layer, layer)
                    return kind % 2 == 0 and layer == self._top_layer
            else:
                return False
            at = unit.find(b"\x00\x00\x01", at + 3)
        return False


def _rate_in(metadata: Mapping[str, Any]) -> Fraction | None:
    """Return the frames per second according to the duration of a packet; None if it is unknown or implausible."""
    match metadata.get("duration"), metadata.get("time_base"):
        case int(duration), [int(numerator), int(denominator)] if duration * numerator > 0 and denominator > 0:
            return Fraction(denominator, duration * numerator)
    return None
