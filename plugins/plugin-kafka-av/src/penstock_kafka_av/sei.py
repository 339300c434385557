"""SEI: splits supplemental enhancement information into messages (ITU-T H.264 and H.265, 7.3.2.3)."""

from __future__ import annotations

from collections.abc import Iterator

from penstock_kafka_av.nal import Unit


def messages(codec: str, unit: Unit) -> Iterator[Unit]:
    """Yield each complete message of an SEI unit as a separate unit."""
    size, raw = _payload(codec, unit)
    for begin, end in _spans(raw):
        yield Unit("sei", unit.type, unit.data[:size] + _escaped(raw[begin:end] + b"\x80"))


def is_cut(codec: str, unit: Unit) -> bool:
    """Return whether an SEI unit ends within a message."""
    _, raw = _payload(codec, unit)
    return raw[max((end for _, end in _spans(raw)), default=0) :] != b"\x80"


def _payload(codec: str, unit: Unit) -> tuple[int, bytes]:
    size = 1 if codec == "h264" else 2
    return size, unit.data[size:].replace(b"\x00\x00\x03", b"\x00\x00")


def _spans(raw: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(raw) - 1:
        begin = at
        value = 0
        for _ in range(2):  # type, then size: each ff byte adds 255, the last byte the rest
            value = 0
            while at < len(raw) and raw[at] == 0xFF:
                value, at = value + 255, at + 1
            if at >= len(raw):
                return
            value += raw[at]
            at += 1
        at += value
        if at > len(raw):
            return
        yield begin, at


def _escaped(payload: bytes) -> bytes:
    """Return a payload with emulation prevention bytes inserted."""
    found = bytearray()
    zeros = 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            found.append(3)
            zeros = 0
        found.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(found)
