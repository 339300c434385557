"""Packets of libav, made from bytes and side data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import av
from av.packet import PacketSideData, packet_sidedata_type_from_literal

from penstock.record import Record

SIDE_DATA: tuple[Any, ...] = ("palette", "new_extradata", "param_change")
"""Side data of a packet that change its picture: a palette, or new parameters."""

_MAX_BYTES = 1 << 20
_SideData: Any = PacketSideData  # its type stub lacks the constructor


def padded(data: bytes) -> av.Packet[Any]:
    """Return a packet with a copy of these bytes, padded with zeros.

    Decoders read some bytes beyond the end (AV_INPUT_BUFFER_PADDING_SIZE). A packet that refers to Python's bytes is
    followed by arbitrary memory, on which the decoded picture could depend.
    """
    packet: av.Packet[Any] = av.Packet(len(data))
    packet.update(data)
    return packet


def packet_of(data: bytes, serial: int, *, key: bool, side_data: Any) -> av.Packet[Any]:
    """Return a packet whose pts is a serial number; malformed side data are ignored."""
    packet = padded(data)
    packet.pts, packet.dts = serial, None
    packet.is_keyframe = key
    if isinstance(side_data, Mapping):
        for name, value in side_data.items():
            if name in SIDE_DATA and isinstance(value, bytes) and 0 < len(value) <= _MAX_BYTES:
                _add(packet, name, value)
    return packet


def _add(packet: av.Packet[Any], name: Any, value: bytes) -> None:
    side = _SideData(packet_sidedata_type_from_literal(name), len(value))
    side.update(value)
    packet.set_sidedata(side)


def side_data_of(packet: av.Packet[Any]) -> dict[str, bytes]:
    """Return the side data of a packet that change its picture."""
    return {name: bytes(packet.get_sidedata(name)) for name in SIDE_DATA if packet.has_sidedata(name)}


def where(record: Record) -> str:
    """Return a description of a packet for error messages."""
    return f"packet {record.seq} of channel {record.channel!r}"
