"""Detect keyframes from the bytes of packets."""

from __future__ import annotations

from collections.abc import Container

# ITU-T H.264 table 7-1: 5 is a slice of an IDR picture, 7 a sequence parameter set; 1 and 2 are other slices.
_H264_START = frozenset({5, 7})
_H264_SLICE = frozenset({1, 2})
# ITU-T H.265 table 7-1: 16 to 23 are pictures of random access points, below 16 are other slices.
_HEVC_IRAP = range(16, 24)
_HEVC_SLICE = range(16)


def is_keyframe(codec: str, data: bytes | bytearray | memoryview) -> bool | None:
    """Return whether a decoder can start with this packet; None if its bytes do not tell.

    Args:
        codec: "h264" or "hevc" (Annex B, with start codes), or "mpeg4"; other codecs yield None.
        data: One whole packet.
    """
    raw = data if isinstance(data, bytes) else bytes(data)
    if codec == "h264":
        return _first_of(raw, 0, 0x1F, _H264_START, _H264_SLICE)
    if codec == "hevc":
        return _first_of(raw, 1, 0x3F, _HEVC_IRAP, _HEVC_SLICE)
    if codec == "mpeg4":  # ISO/IEC 14496-2, 6.2.5: vop_coding_type are the two bits after the start code
        at = raw.find(b"\x00\x00\x01\xb6")
        return None if at < 0 or at + 4 >= len(raw) else raw[at + 4] >> 6 == 0
    return None


def has_idr(data: bytes) -> bool:
    """Return whether an H.264 packet (Annex B) contains an IDR picture; no later picture refers beyond it."""
    at = data.find(b"\x00\x00\x01")
    while 0 <= at < len(data) - 3:
        kind = data[at + 3] & 0x1F
        if kind == 5 or kind in _H264_SLICE:
            return kind == 5
        at = data.find(b"\x00\x00\x01", at + 3)
    return False


def _first_of(raw: bytes, shift: int, mask: int, starts: Container[int], others: Container[int]) -> bool | None:
    at = raw.find(b"\x00\x00\x01")
    if at < 0:
        return None
    while 0 <= at < len(raw) - 3:
        kind = raw[at + 3] >> shift & mask
        if kind in starts:
            return True
        if kind in others:
            return False
        at = raw.find(b"\x00\x00\x01", at + 3)
    return False
