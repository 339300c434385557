"""Packets of libav, made of bytes and of what came beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import av
import av.packet

SIDE_DATA: tuple[Any, ...] = ("palette", "new_extradata", "param_change")
"""What comes beside a packet and changes its picture: a palette, or parameters from here on."""

_MAX_BYTES = 1 << 20
_Side: Any = getattr(av.packet, "PacketSideData", None)  # av 14 has none


def padded(data: bytes) -> av.Packet[Any]:
    """Return a packet with a copy of these bytes, and zeros behind them.

    Decoders read some bytes beyond the end (AV_INPUT_BUFFER_PADDING_SIZE). A packet that only refers to bytes of Python
    has whatever lies behind them in memory, and what is decoded could depend on it.
    """
    packet: av.Packet[Any] = av.Packet(len(data))
    packet.update(data)
    return packet


def packet_of(data: bytes, serial: int, *, key: bool, side_data: Any) -> av.Packet[Any]:
    """Return a packet whose pts is a serial number; side data that make no sense are left out."""
    packet = padded(data)
    packet.pts, packet.dts = serial, None
    packet.is_keyframe = key
    if isinstance(side_data, Mapping) and _Side is not None:
        for name, value in side_data.items():
            if name in SIDE_DATA and isinstance(value, bytes) and 0 < len(value) <= _MAX_BYTES:
                _add(packet, name, value)
    return packet


def _add(packet: av.Packet[Any], name: Any, value: bytes) -> None:
    side = _Side(av.packet.packet_sidedata_type_from_literal(name), len(value))
    side.update(value)
    packet.set_sidedata(side)


def side_data_of(packet: av.Packet[Any]) -> dict[str, bytes]:
    """Return what comes beside a packet and changes its picture."""
    if _Side is None:
        return {}
    return {name: bytes(packet.get_sidedata(name)) for name in SIDE_DATA if packet.has_sidedata(name)}
