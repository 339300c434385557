"""ParameterSets: the parameter sets of an H.264 or HEVC stream, kept for decoders that begin later."""

from __future__ import annotations

import attrs
import av
from av.bitstream import BitStreamFilterContext

from penstock.record import Record
from penstock_kafka_av.nal import Unit, begins_with_picture, is_known, joined, set_id, units
from penstock_kafka_av.packet import padded
from penstock_kafka_av.sei import is_cut

_WITH_HEADER = frozenset({"mpeg1video", "mpeg2video", "mpeg4", "vc1", "av1", "cavs"})
_MAX_UNIT_BYTES = 1 << 16
_MAX_AHEAD_BYTES = 1 << 20


@attrs.define
class ParameterSets:
    """Keep the last parameter sets of a channel, and prepend records without a picture to the next packet.

    Attributes:
        ahead: The records without a picture whose bytes will be prepended to the next packet.
    """

    ahead: list[Record] = attrs.field(factory=list)
    _kept: dict[tuple[int, int], Unit] = attrs.field(factory=dict)
    _leading: bytes = b""
    _header: bytes = b""
    _extractor: BitStreamFilterContext | None = None

    def take(self, codec: str, data: bytes, record: Record) -> bytes | None:
        """Note the parameter sets of a packet; return it with the records ahead, or None if it contains no picture.

        Raises:
            ValueError: the packet is truncated before its picture.
        """
        if not is_known(codec):
            return data
        if not begins_with_picture(codec, data):
            found = []
            for unit in units(codec, data):
                found.append(unit)
                if unit.kind == "picture":
                    break
                if unit.kind == "set" and len(unit.data) <= _MAX_UNIT_BYTES and (number := set_id(codec, unit)) >= 0:
                    self._kept[unit.type, number] = unit
            if found and found[-1].kind != "picture":
                if found[-1].kind == "sei" and is_cut(codec, found[-1]):
                    raise ValueError("is truncated before its picture")
                leading = joined([unit for unit in found if not unit.is_suffix])
                if len(self._leading) + len(leading) <= _MAX_AHEAD_BYTES:
                    self._leading += leading
                    self.ahead.append(record)
                return None
        if self._leading:
            data, self._leading = self._leading + data, b""
            self.ahead.clear()
        return data

    def lead(self, codec: str, data: bytes) -> bytes:
        """Return a packet for a new decoder, preceded by the kept parameter sets that the packet lacks."""
        if codec in _WITH_HEADER:
            return data if not self._header or self._header_in(codec, data) else self._header + data
        if not self._kept or not is_known(codec):
            return data
        there = set()
        for unit in units(codec, data):
            if unit.kind == "picture":
                break
            if unit.kind == "set":
                there.add((unit.type, set_id(codec, unit)))
        lacking = [unit for key, unit in sorted(self._kept.items(), key=lambda item: item[0]) if key not in there]
        return joined(lacking) + data if lacking else data

    def note_header(self, codec: str, data: bytes) -> None:
        """Keep the stream header in a packet (a sequence, a visual object), if the codec has stream headers."""
        if codec in _WITH_HEADER:
            self._header = self._header_in(codec, data) or self._header

    @property
    def header(self) -> bytes:
        """The last stream header; b"" if there was none."""
        return self._header

    def _header_in(self, codec: str, data: bytes) -> bytes:
        if self._extractor is None:
            self._extractor = BitStreamFilterContext("extract_extradata", codec)
        try:
            for packet in self._extractor.filter(padded(data)):
                if packet.has_sidedata("new_extradata"):
                    return bytes(packet.get_sidedata("new_extradata"))
        except av.FFmpegError:  # damaged: the decoder reports it
            self._extractor = None
        return b""

    def all(self) -> list[Unit]:
        """Return the kept sets, in the order in which a decoder needs them."""
        return [unit for _, unit in sorted(self._kept.items(), key=lambda item: item[0])]

    def drop_ahead(self) -> list[Record]:
        """Forget the records ahead, after a discontinuity, and return them. The sets are kept."""
        dropped, self._leading = self.ahead, b""
        self.ahead = []
        return dropped

    def clear(self) -> None:
        """Forget everything, after a change of codec."""
        self.drop_ahead()
        self._kept.clear()
        self._extractor, self._header = None, b""
