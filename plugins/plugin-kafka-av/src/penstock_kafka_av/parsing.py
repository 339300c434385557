"""CutStream: a stream that was cut anywhere, put together into packets again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import attrs
import av

from penstock.record import Record
from penstock_kafka_av.context import new_context


@attrs.define
class _Cut:
    record: Record
    end: int
    begun: int = 0


class CutStream:
    """Put packets together, and remember in which record each begins.

    A parser knows that a packet has ended only when it sees the next one begin, so it gives a packet late; the record
    is found by counting bytes, which the parser neither adds nor leaves out.
    """

    def __init__(self, codec: av.Codec) -> None:
        """Take the codec whose packets these are. Raises ValueError, at the first record, if it has no parser."""
        self._parser = new_context(codec, "r")
        self._cuts: deque[_Cut] = deque()
        self._fed = 0
        self._given = 0

    def feed(self, record: Record, data: bytes) -> Iterator[tuple[av.Packet[Any], Record, int]]:
        """Yield the packets that this record completes, each with the record it begins in and its number in it."""
        self._fed += len(data)
        self._cuts.append(_Cut(record, self._fed))
        return self._own(self._parser.parse(data))

    def flush(self) -> Iterator[tuple[av.Packet[Any], Record, int]]:
        """Yield the packets that end with the stream."""
        while packets := self._parser.parse(None):
            yield from self._own(packets)

    def unfinished(self) -> list[Record]:
        """Return the records of which bytes are still waiting for the end of their packet."""
        return [cut.record for cut in self._cuts if cut.end > self._given]

    def _own(self, packets: list[av.Packet[Any]]) -> Iterator[tuple[av.Packet[Any], Record, int]]:
        for packet in packets:
            while len(self._cuts) > 1 and self._cuts[0].end <= self._given:
                self._cuts.popleft()
            cut = self._cuts[0]
            self._given += packet.size
            yield packet, cut.record, cut.begun
            cut.begun += 1
