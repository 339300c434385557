"""NAL units of H.264 and HEVC: their boundaries, their kinds, and the ids of parameter sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

START = b"\x00\x00\x00\x01"
_CODE = b"\x00\x00\x01"

Kind = Literal["set", "sei", "picture", "other"]

# ITU-T H.264 table 7-1 and H.265 table 7-1.
_H264: dict[int, Kind] = {
    **dict.fromkeys((1, 2, 3, 4, 5, 19, 20, 21), "picture"),
    **dict.fromkeys((7, 8, 13, 15), "set"),
    6: "sei",
}
_HEVC: dict[int, Kind] = {
    **dict.fromkeys(range(32), "picture"),
    **dict.fromkeys((32, 33, 34), "set"),
    39: "sei",
    40: "sei",
}


@attrs.frozen
class Unit:
    """One NAL unit.

    Attributes:
        kind: Its purpose.
        type: Its nal_unit_type.
        data: Its bytes, without start code.
    """

    kind: Kind
    type: int
    data: bytes

    @property
    def is_suffix(self) -> bool:
        """Whether it belongs to the preceding picture, and so must not be moved to the next one."""
        return (self.kind == "sei" and self.type == 40) or (self.kind == "other" and self.type in (12, 38))


def is_known(codec: str) -> bool:
    """Return whether this module can parse packets of this codec."""
    return codec in ("h264", "hevc")


def units(codec: str, data: bytes) -> Iterator[Unit]:
    """Yield the NAL units of a packet with start codes (Annex B); nothing if it has none."""
    shift, mask, kinds = (0, 0x1F, _H264) if codec == "h264" else (1, 0x3F, _HEVC)
    begin = data.find(_CODE)
    while 0 <= begin < len(data) - 3:
        begin += 3
        end = data.find(_CODE, begin)
        unit = data[begin:] if end < 0 else data[begin:end].rstrip(b"\x00")
        if unit:
            number = unit[0] >> shift & mask
            yield Unit(kinds.get(number, "other"), number, unit)
        begin = end


def begins_with_picture(codec: str, data: bytes) -> bool:
    """Return whether the first NAL unit is a slice of a picture. Fast: it reads no other unit."""
    at = data.find(_CODE, 0, 8)
    if at < 0 or at + 3 >= len(data):
        return False
    first = data[at + 3]
    return _H264.get(first & 0x1F) == "picture" if codec == "h264" else first >> 1 & 0x3F < 32


def joined(parts: list[Unit]) -> bytes:
    """Return units as a packet with start codes."""
    return b"".join(START + unit.data for unit in parts)


def set_id(codec: str, unit: Unit) -> int:
    """Return the id by which other units refer to a parameter set; -1 if the set is truncated before it."""
    bits = _Bits(unit.data[1 if codec == "h264" else 2 :][:128])
    try:
        if codec == "h264":
            if unit.type in (7, 15):  # after profile, constraints and level
                bits.skip(24)
            return bits.exp_golomb()
        if unit.type == 32:
            return bits.take(4)
        if unit.type == 33:
            _skip_profile_tier_level(bits)
        return bits.exp_golomb()
    except EOFError:
        return -1


def _skip_profile_tier_level(bits: _Bits) -> None:
    """Skip the fields before the id of an HEVC sequence parameter set: H.265 7.3.2.2 and 7.3.3."""
    bits.skip(4)
    layers = bits.take(3)
    bits.skip(1 + 88 + 8)
    flags = [(bits.take(1), bits.take(1)) for _ in range(8 if layers else 0)]
    for has_profile, has_level in flags[:layers]:
        bits.skip(88 * has_profile + 8 * has_level)


class _Bits:
    """Reads bits of a NAL unit's payload, without emulation prevention bytes."""

    def __init__(self, payload: bytes) -> None:
        raw = payload.replace(b"\x00\x00\x03", b"\x00\x00")
        self._value, self._left = int.from_bytes(raw, "big"), 8 * len(raw)

    def take(self, count: int) -> int:
        if count > self._left:
            raise EOFError
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def skip(self, count: int) -> None:
        self.take(count)

    def exp_golomb(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)
