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
        codec: "h264" or "hevc" (Annex B, with start codes), "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9" or "av1",
            or another decoder of these in libav; other codecs yield None.
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
    if codec in ("mpeg1video", "mpeg2video"):  # ISO/IEC 13818-2, 6.3.9: picture_coding_type of an I-picture is 1
        at = raw.find(b"\x00\x00\x01\x00")
        if at < 0 or at + 5 >= len(raw):
            return None
        return raw[at + 5] >> 3 & 7 == 1 or b"\x00\x00\x01\xb3" in raw[:at]  # or a sequence header, for intra refresh
    if codec in ("vp8", "libvpx"):  # RFC 6386, 9.1
        return raw[0] & 1 == 0 if raw else None
    if codec in ("vp9", "libvpx-vp9"):
        return _is_vp9_key(raw)
    if codec in ("av1", "libdav1d", "libaom-av1"):
        return _is_av1_key(raw)
    return None


def _is_vp9_key(raw: bytes) -> bool | None:
    """Read the uncompressed header (VP9 bitstream specification, 6.2) of a packet's first frame."""
    if not raw or raw[0] >> 6 != 2:
        return None
    bits = raw[0] if raw[0] & 0x30 != 0x30 else raw[0] << 1  # profile 3 has a reserved bit
    return bits & 0x0C == 0  # neither show_existing_frame nor frame_type 1


def _is_av1_key(raw: bytes) -> bool | None:
    """Read the header (AV1 bitstream specification, 5.3 and 5.9) of a temporal unit's first frame."""
    at = 0
    while at < len(raw):
        head = raw[at]
        at += 2 if head & 4 else 1
        size = len(raw) - at
        if head & 2:
            size = shift = 0
            while at < len(raw) and shift < 56:
                size |= (raw[at] & 0x7F) << shift
                shift += 7
                at += 1
                if not raw[at - 1] & 0x80:
                    break
        if head & 0x80 or not 0 <= size <= len(raw) - at:
            return None
        kind = head >> 3 & 15
        if kind == 1 and size and raw[at] & 0x08:  # a still picture with a reduced header
            return True
        if kind in (3, 6) and size:
            return raw[at] >> 5 == 0  # neither show_existing_frame nor another frame_type
        at += size
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
