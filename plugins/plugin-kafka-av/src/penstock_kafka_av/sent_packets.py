"""SentPackets: what was given to a decoder of libav, until nothing can need it again."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from penstock.record import Record


@attrs.define
class Sent:
    """A packet that was given to libav.

    Attributes:
        record: The record that it began in.
        number: Its place among the packets that begin in that record.
        key: Whether it is a keyframe; None if nobody knows yet.
        pts: What the container says, or None.
        unit: Its bytes, as libav got them.
        is_out: Whether a picture of it came out.
        more: How many pictures came beside the first.
    """

    record: Record
    number: int
    key: bool | None
    pts: int | None
    unit: bytes = b""
    is_out: bool = False
    more: int = 0

    def comes_before(self, other: Sent) -> bool:
        """Return whether it is known to be shown before another one."""
        return self.pts is not None and other.pts is not None and self.pts < other.pts


@attrs.define
class SentPackets:
    """Keep packets by their serial numbers, from the last keyframe whose own frame is out.

    In the order of display everything before that is out too, so nothing older is needed again.

    Attributes:
        most: How many are kept.
        has_fields: Whether two packets may make one picture, so that one without a picture means nothing.
        unshown: How many were dropped without a picture.
    """

    most: int
    has_fields: bool = False
    unshown: int = 0
    _kept: dict[int, Sent] = attrs.field(factory=dict)

    def add(self, serial: int, sent: Sent) -> None:
        """Keep a packet; if there are too many, the oldest is dropped."""
        self._kept[serial] = sent
        if len(self._kept) > self.most:
            self._drop(next(iter(self._kept)))

    def get(self, serial: int | None) -> Sent | None:
        """Return the packet of this number, if it is kept."""
        return None if serial is None else self._kept.get(serial)

    def refused(self, serial: int) -> None:
        """Forget a packet that libav refused; its error says so."""
        self._kept.pop(serial, None)

    def first(self) -> Sent | None:
        """Return the oldest packet."""
        return next(iter(self._kept.values()), None)

    def items(self) -> list[tuple[int, Sent]]:
        """Return all with their numbers, the oldest first."""
        return list(self._kept.items())

    def drop_before(self, sent: Sent) -> None:
        """Drop all that are older than this one."""
        for serial, each in self.items():
            if each is sent:
                return
            self._drop(serial)

    def clear(self) -> None:
        """Drop all."""
        for serial in list(self._kept):
            self._drop(serial)

    def records(self) -> Iterator[Record]:
        """Yield the records of all."""
        return (sent.record for sent in self._kept.values())

    def unseen(self) -> Iterator[Record]:
        """Yield the records of those of which no picture is out."""
        return (sent.record for sent in self._kept.values() if not sent.is_out)

    def can_begin_again(self) -> bool:
        """Return whether decoding all again gives the state of now: no picture refers to one before the oldest."""
        first = self.first()
        if first is None or not first.key or not first.is_out:
            return False
        return not any(not sent.is_out and sent.comes_before(first) for sent in self._kept.values())

    def _drop(self, serial: int) -> None:
        if not self._kept.pop(serial).is_out and not self.has_fields:
            self.unshown += 1
