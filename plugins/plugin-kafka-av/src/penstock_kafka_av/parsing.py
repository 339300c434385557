"""CutStream: reassembles packets from a stream that was split at arbitrary bytes."""

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
    """Reassemble packets, and track the record in which each begins.

    A parser detects the end of a packet only by the start of the next one, so packets come late. The record is found by
    counting bytes, since the parser neither adds nor removes any.
    """

    def __init__(self, codec: av.Codec) -> None:
        """Create a parser for this codec. If libav has none, the first `feed` raises ValueError."""
        self._parser = new_context(codec, "r")
        self._cuts: deque[_Cut] = deque()
        self._fed = 0
        self._given = 0

    def feed(self, record: Record, data: bytes) -> Iterator[tuple[av.Packet[Any], Record, int]]:
        """Yield the packets that this record completes, each with the record in which it begins and its number there.

        Raises:
            ValueError: libav has no parser for the codec.
        """
        self._fed += len(data)
        self._cuts.append(_Cut(record, self._fed))
        return self._own(self._parser.parse(data))

    def flush(self) -> Iterator[tuple[av.Packet[Any], Record, int]]:
        """Yield the remaining packets at the end of the stream."""
        while packets := self._parser.parse(None):
            yield from self._own(packets)

    def unfinished(self) -> list[Record]:
        """Return the records with bytes of incomplete packets."""
        return [cut.record for cut in self._cuts if cut.end > self._given]

    def _own(self, packets: list[av.Packet[Any]]) -> Iterator[tuple[av.Packet[Any], Record, int]]:
        for packet in packets:
            while len(self._cuts) > 1 and self._cuts[0].end <= self._given:
                self._cuts.popleft()
            cut = self._cuts[0]
            self._given += packet.size
            yield packet, cut.record, cut.begun
            cut.begun += 1
