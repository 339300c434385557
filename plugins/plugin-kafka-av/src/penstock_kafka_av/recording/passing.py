"""Passing: encoded packets that are written to a file unchanged."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import attrs
import av

from penstock.errors import StoreError
from penstock.record import Record
from penstock_kafka_av.context import find_decoder, open_decoder, wait_until_idle
from penstock_kafka_av.keyframe import is_keyframe
from penstock_kafka_av.nal import is_known, joined
from penstock_kafka_av.packet import padded
from penstock_kafka_av.parameter_sets import ParameterSets
from penstock_kafka_av.parameters import PARAMETERS
from penstock_kafka_av.recording.muxing import IN_HEAD, Track

MICROSECOND = Fraction(1, 1_000_000)
_MOST = 1 << 31
_MOST_PTS = 1 << 62
_UNORDERED = frozenset({"vp8", "vp9", "av1"})
"""Codecs with inter prediction whose packets are in display order."""


@attrs.frozen
class Passed:
    """A packet in the form in which it is written.

    Attributes:
        data: Its bytes; with H.264 and HEVC, preceded by parameter sets received in separate records.
        track: The file header for it if it is a keyframe; else None.
        pts: Presentation time, in units of `unit`.
        dts: Decoding time, in units of `unit`; None if unknown.
        duration: Duration, in units of `unit`; 0 if unknown.
        unit: Seconds per unit.
        has_pts: Whether the times come from its metadata, rather than from the time of the record.
    """

    data: bytes
    track: Track | None
    pts: int
    dts: int | None
    duration: int
    unit: Fraction
    has_pts: bool


@attrs.define(eq=False)
class Passing:
    """Analyse the packets of one channel: keyframes, times, and the file header that they need.

    Attributes:
        where: Prefix of error messages.
        codec: The codec of packets without `codec` in their metadata.
    """

    where: str
    codec: str
    _name: str = ""
    _intra_only: bool = False
    _reorders: bool = True
    _hints: dict[str, Any] = attrs.field(factory=dict)
    _sets: ParameterSets = attrs.field(factory=ParameterSets)
    _sizes: dict[bytes, tuple[int, int]] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        """The codec of the last packet."""
        return self._name

    @property
    def reorders(self) -> bool:
        """Whether display order may differ from the order of the packets."""
        return self._reorders

    def take(self, data: bytes, record: Record, *, named: str) -> Passed | None:
        """Return the packet of a record; None if it contains only parameter sets, which will precede the next packet.

        Raises:
            StoreError: the packet is empty or damaged, or libav does not know its codec; not retryable.
        """
        if not data:
            raise StoreError(f"{self.where}: {named} is empty; filter empty packets out", retryable=False)
        metadata = record.metadata
        self._adapt(metadata.get("codec", self.codec), named)
        for name in PARAMETERS:
            value = metadata.get(name)
            if value is not None:
                self._hints[name] = value
        try:
            whole = self._sets.take(self._name, data, record)
        except ValueError as error:
            raise StoreError(f"{self.where}: {named} {error}; check its sender", retryable=False) from error
        if whole is None:
            return None
        times = _times(record)
        is_key = self._is_key(whole, metadata)
        unit = times[3] if times is not None else MICROSECOND
        track = self._track(whole, unit, named) if is_key else None
        if times is None:
            return Passed(whole, track, record.time_ns // 1000, None, 0, unit, has_pts=False)
        return Passed(whole, track, *times, has_pts=True)

    def _adapt(self, name: Any, named: str) -> None:
        if name == self._name:
            return
        try:
            codec = find_decoder(name) if isinstance(name, str) else None
        except ValueError:
            codec = None
        if codec is None:
            raise StoreError(
                f"{self.where}: {named} is of codec {name!r}, which this libav does not know; correct the metadata, or "
                "set packet_codec for packets without metadata",
                retryable=False,
            )
        self._name, self._intra_only = name, codec.intra_only
        self._reorders = not codec.intra_only and name not in _UNORDERED
        self._hints.clear()
        self._sets.clear()
        self._sizes.clear()

    def _is_key(self, data: bytes, metadata: Any) -> bool:
        declared = metadata.get("is_keyframe")
        if isinstance(declared, bool):
            return declared
        return self._intra_only or is_keyframe(self._name, data) is True

    def _track(self, data: bytes, unit: Fraction, named: str) -> Track:
        parameters = {name: self._hints[name] for name in IN_HEAD if name in self._hints}
        if is_known(self._name):
            parameters["extradata"] = joined(self._sets.all()) or parameters.get("extradata", b"")
        elif "extradata" not in parameters:
            self._sets.note_header(self._name, data)
            parameters["extradata"] = self._sets.header
        width, height = self._hints.get("width"), self._hints.get("height")
        if not (type(width) is int and type(height) is int and width > 0 and height > 0):
            width, height = self._size(data, parameters["extradata"], named)
        return Track(self._name, width, height, unit, {k: v for k, v in parameters.items() if v})

    def _size(self, data: bytes, extradata: bytes, named: str) -> tuple[int, int]:
        """Return width and height of a packet's frame in pixels, by decoding it. Raises StoreError."""
        found = self._sizes.get(extradata) if extradata else None
        if found is not None:
            return found
        frames = []
        try:
            context = open_decoder(find_decoder(self._name), threads=1, hints=self._hints)
            try:
                packet = padded(self._sets.lead(self._name, data))
                packet.pts = 0
                frames = [*context.decode(packet), *context.decode(None)]
            finally:
                wait_until_idle(context)
        except (av.FFmpegError, ValueError) as error:
            raise StoreError(
                f"{self.where}: {named} cannot be decoded ({error}), and its metadata lack 'width' and 'height'; "
                "make the source send them",
                retryable=False,
            ) from error
        if not frames:
            raise StoreError(
                f"{self.where}: {named} contains no frame to get the size from, and its metadata lack 'width' and "
                "'height'; make the source send them",
                retryable=False,
            )
        size = frames[0].width, frames[0].height
        self._sizes = {extradata: size}
        return size


def _times(record: Record) -> tuple[int, int | None, int, Fraction] | None:
    """Return pts, dts, duration and their unit from the metadata, or None if these are missing or malformed."""
    metadata = record.metadata
    base, pts = metadata.get("time_base"), metadata.get("pts")
    if (
        type(pts) is int
        and isinstance(base, list | tuple)
        and len(base) == 2
        and all(type(part) is int and 0 < part < _MOST for part in base)
        and abs(pts) < _MOST_PTS
    ):
        dts, duration = metadata.get("dts"), metadata.get("duration")
        if type(dts) is not int or abs(dts) >= _MOST_PTS:
            dts = None
        if type(duration) is not int or not 0 < duration < _MOST:
            duration = 0
        return pts, dts, duration, Fraction(base[0], base[1])
    return None
