"""SentPackets: the packets sent to a libav decoder, kept until no later frame can need them."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from penstock.record import Record


@attrs.define
class Sent:
    """A packet that was sent to libav.

    Attributes:
        record: The record in which it begins.
        number: Its index among the packets that begin in that record.
        key: Whether it is a keyframe; None if not known yet.
        pts: The container's pts, or None.
        unit: Its bytes, as sent to libav.
        is_out: Whether its frame was returned.
        more: Number of frames returned after the first.
    """

    record: Record
    number: int
    key: bool | None
    pts: int | None
    unit: bytes = b""
    is_out: bool = False
    more: int = 0

    def comes_before(self, other: Sent) -> bool:
        """Return whether both pts are known and this packet is shown before the other."""
        return self.pts is not None and other.pts is not None and self.pts < other.pts


@attrs.define
class SentPackets:
    """Keep packets by their serial numbers, from the last keyframe whose own frame was returned.

    All frames before it in display order were returned too, so older packets are not needed again.

    Attributes:
        most: Maximum number of packets kept.
        has_fields: Whether two packets may form one frame, so that a packet without a frame is not an error.
        unshown: Number of packets dropped without a frame.
    """

    most: int
    has_fields: bool = False
    unshown: int = 0
    _kept: dict[int, Sent] = attrs.field(factory=dict)

    def add(self, serial: int, sent: Sent) -> None:
        """Keep a packet; drop the oldest one if there are more than `most`."""
        self._kept[serial] = sent
        if len(self._kept) > self.most:
            self._drop(next(iter(self._kept)))

    def get(self, serial: int | None) -> Sent | None:
        """Return the packet with this serial number, or None."""
        return None if serial is None else self._kept.get(serial)

    def refused(self, serial: int) -> None:
        """Forget a packet that libav rejected and whose error is reported."""
        self._kept.pop(serial, None)

    def first(self) -> Sent | None:
        """Return the oldest packet, or None."""
        return next(iter(self._kept.values()), None)

    def items(self) -> list[tuple[int, Sent]]:
        """Return all packets with their serial numbers, the oldest first."""
        return list(self._kept.items())

    def drop_before(self, sent: Sent) -> None:
        """Drop all packets older than this one."""
        for serial, each in self.items():
            if each is sent:
                return
            self._drop(serial)

    def clear(self) -> None:
        """Drop all packets."""
        for serial in list(self._kept):
            self._drop(serial)

    def records(self) -> Iterator[Record]:
        """Yield the records of all packets."""
        return (sent.record for sent in self._kept.values())

    def unseen(self) -> Iterator[Record]:
        """Yield the records of packets whose frames were not returned yet."""
        return (sent.record for sent in self._kept.values() if not sent.is_out)

    def can_begin_again(self) -> bool:
        """Return whether decoding all packets again restores the state: no frame refers to one before the oldest."""
        first = self.first()
        if first is None or not first.key or not first.is_out:
            return False
        return not any(not sent.is_out and sent.comes_before(first) for sent in self._kept.values())

    def _drop(self, serial: int) -> None:
        if not self._kept.pop(serial).is_out and not self.has_fields:
            self.unshown += 1
