"""Oddities: finds units beside a picture for which a strict decoder rejects the whole picture."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import attrs
import av
from av.video.codeccontext import VideoCodecContext

from penstock.record import Record
from penstock_kafka_av.context import find_decoder, open_decoder
from penstock_kafka_av.nal import START, Unit, is_known, joined, units
from penstock_kafka_av.packet import padded
from penstock_kafka_av.sei import messages
from penstock_kafka_av.tiff import picture_tags_only

_logger = logging.getLogger(__name__)
_REF_IDC = 0x60  # nal_ref_idc, H.264 7.3.1


@attrs.define
class Oddities:
    """Find non-slice NAL units that libav rejects, by sending each to a probe decoder that decodes no picture.

    A strict decoder is needed for the slices, whose damage would otherwise be concealed. It also rejects SEI and
    parameter sets that a lenient decoder skips with a log line. Without these units, and with parameter sets before the
    SEI that refers to them, it decodes everything that a lenient decoder does.

    Attributes:
        codec: Name of the codec.
        begun: See `without`.
    """

    codec: str
    _probe: VideoCodecContext | None = None

    begun: bool = False

    def without(self, data: bytes, known: Sequence[Unit]) -> bytes | None:
        """Return a packet without its rejected units; None if there are none, so that the picture itself is damaged.

        Sets `begun` to whether a rejected unit follows a slice, so that a decoder has already begun the picture.

        Args:
            data: The packet, with start codes.
            known: The parameter sets that the channel's decoder has seen.
        """
        if self.codec == "tiff":
            return picture_tags_only(data)
        if not is_known(self.codec):
            return None
        parts = list(units(self.codec, data))
        first = next((at for at, unit in enumerate(parts) if unit.kind == "picture"), len(parts))
        head = [unit for unit in parts[:first] if unit.kind == "set"]
        head += [unit for unit in parts[:first] if unit.kind != "set"]
        if self._probe is None:
            self._probe = _open_probe(self.codec)
            for unit in known:
                self._accepts(unit)
        self.begun = False
        kept: list[Unit] = []
        for unit in [*head, *parts[first:]]:
            if unit.kind == "picture" or self._accepts(unit):
                kept.append(unit)
                continue
            self.begun = self.begun or any(part.kind == "picture" for part in kept)
            if unit.kind == "sei":
                kept.extend(part for part in messages(self.codec, unit) if self._accepts(part))
        return None if kept == parts else joined(kept)

    def report(self, record: Record) -> None:
        """Log a warning about the rejected units; called once per channel."""
        _logger.warning(
            "av decoder (%s), packet %d of channel %r: units other than the picture (SEI, parameter sets) are damaged "
            "or out of order; they are left out of this and later packets",
            self.codec,
            record.seq,
            record.channel,
        )

    def _accepts(self, unit: Unit) -> bool:
        assert self._probe is not None
        data = unit.data
        if self.codec == "h264" and unit.kind == "set":  # with nal_ref_idc 0, the probe would skip it
            data = bytes([data[0] | _REF_IDC]) + data[1:]
        try:
            self._probe.decode(padded(START + data))
        except av.FFmpegError:
            return False
        return True


def _open_probe(codec: str) -> VideoCodecContext:
    probe = open_decoder(find_decoder(codec), threads=1, hints={})
    probe.skip_frame = "NONREF"  # without it, a packet that holds no picture is an error in H.264
    return probe
