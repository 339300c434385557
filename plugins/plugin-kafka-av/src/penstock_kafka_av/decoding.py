"""Decoding: one decoder of libav, the packets it was given, and the frames that are ready."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs
import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from penstock.errors import DecodeError
from penstock.identity import part_number
from penstock.record import Record
from penstock_kafka_av.context import find_decoder, open_decoder
from penstock_kafka_av.keyframe import has_idr, is_keyframe
from penstock_kafka_av.pixels import to_array

HINTS = ("extradata", "width", "height", "reorder_depth", "color")
"""What a packet's metadata says only to open a decoder."""

_LEFT_OUT = (*HINTS, "discard", "dts")


@attrs.define(eq=False)
class _Sent:
    record: Record
    number: int  # of the packet among those that begin in the record
    key: bool | None
    pts: int | None
    seq: int  # of its picture, if packets and pictures come in the same order
    is_out: bool = False
    more: int = 0  # pictures that came of it and had no number of their own


@attrs.define
class Decoding:
    """Send packets to libav and match what comes out with them.

    A packet is sent with a serial number as its pts. Decoders hand the pts on to the frame whatever the order, so the
    number leads from the frame to its packet. Packets are kept from the last keyframe whose own frame is out: in the
    order of display everything before it is out too, so nothing older is needed again.
    """

    codec: str
    pixel_format: str
    threads: int
    thread_type: Literal["slice", "frame", "auto"]
    keep_corrupt: bool
    max_held: int
    period_ns: int
    hints: dict[str, Any]

    skipped: int = 0
    damaged: int = 0
    ready: deque[Record] = attrs.field(factory=deque)
    _context: VideoCodecContext | None = None
    _name: str = ""
    _intra_only: bool = False
    _sent: dict[int, _Sent] = attrs.field(factory=dict)
    _numbers: deque[_Sent] = attrs.field(factory=deque)  # packets whose numbers no picture has taken yet
    _serial: int = 0
    _waiting: bool = True  # for a keyframe
    _first: _Sent | None = None  # the keyframe that ended the waiting, until its frame is out
    _is_open_group: bool = False  # pictures may come that are shown before `_first` and refer to others before it
    _has_fields: bool = False  # two packets may make one picture then
    _gap: bool = False

    def send(self, packet: av.Packet[Any], record: Record, *, number: int, whole: bool) -> None:
        """Decode one packet, the `number`-th that begins in this record; frames go to `ready`. Raises DecodeError."""
        self._adapt(record, whole=whole)
        key = self._is_keyframe(packet, record.metadata, whole=whole)
        if self._waiting and key is False and not self.keep_corrupt:
            self.skipped += 1
            return
        pts = record.metadata.get("pts")
        pts = pts if type(pts) is int and number == 0 else None
        sent = _Sent(record, number, key, pts, _seq_of(record, number, whole=whole))
        if self._leads(sent):
            self.skipped += 1
            return
        if self._context is None:
            self._context = self._open(record)
        if self._waiting and key:
            self._waiting, self._first = False, sent
            self._is_open_group = self._name == "h264" and not has_idr(bytes(packet))
            self._gap = self._gap or record.discontinuity
        serial = packet.pts = self._serial
        self._serial += 1
        packet.dts = None
        packet.is_keyframe = bool(key)
        self._sent[serial] = sent
        self._numbers.append(sent)
        if len(self._numbers) > self.max_held:
            self._numbers.popleft()
        if len(self._sent) > self.max_held:
            self._drop(next(iter(self._sent)))
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError as error:
            self._sent.pop(serial, None)
            if sent in self._numbers:
                self._numbers.remove(sent)
            if self._first is not None and self._is_open_group and sent is not self._first:
                self.skipped += 1  # without pts, this is how pictures that lead an open group show themselves
                return
            raise self._damage(record, f"cannot be decoded ({error.strerror})") from error
        for frame in frames:
            self._emit(frame)

    def find(self, record: Record) -> av.Codec:
        """Return the codec of this packet: the one that was set, or the one that its metadata names."""
        name = self._name_of(record)
        try:
            codec = find_decoder(name)
        except ValueError as error:
            raise DecodeError(f"av decoder, {where(record)}: {error}; set codec=… or correct the metadata") from error
        self._name, self._intra_only = name, codec.intra_only
        return codec

    def drain(self) -> None:
        """Take the last frames out; errors are counted in `damaged`, since raising them would lose frames."""
        context, self._context = self._context, None
        if context is None or not context.is_open:
            return
        try:
            frames = context.decode(None)
        except av.FFmpegError:
            self.damaged += 1
            return
        for frame in frames:
            try:
                self._emit(frame)
            except DecodeError:  # counted by whoever raised it
                return

    def forget(self, *, gap: bool) -> None:
        """Wait for the next keyframe as if nothing had been; with `gap`, its frame does not continue the last one."""
        self._context = None
        for serial in list(self._sent):
            self._drop(serial)
        self._numbers.clear()
        self._waiting, self._first = True, None
        self._gap = gap and self._serial > 0

    def held(self) -> Iterator[Record]:
        """Yield the records of the packets that are kept."""
        return (sent.record for sent in self._sent.values())

    def unseen(self) -> Iterator[Record]:
        """Yield the records of which a picture is still to come."""
        return (sent.record for sent in self._sent.values() if not sent.is_out)

    def _name_of(self, record: Record) -> str:
        name = record.metadata.get("codec", "h264") if self.codec == "auto" else self.codec
        if not isinstance(name, str):
            raise DecodeError(f"av decoder, {where(record)}: metadata 'codec' is {name!r}, not a name; set codec=…")
        return name

    def _open(self, record: Record) -> VideoCodecContext:
        codec = self.find(record)
        try:
            return open_decoder(
                codec,
                threads=self.threads,
                thread_type=self.thread_type,
                strict=not self.keep_corrupt,
                hints=self.hints,
            )
        except (av.FFmpegError, ValueError) as error:
            raise DecodeError(f"av decoder, {where(record)}: cannot open codec {self._name!r}: {error}") from error

    def _adapt(self, record: Record, *, whole: bool) -> None:
        """Begin anew where the packets are another codec's, or say that the decoder needs other parameters."""
        metadata = record.metadata
        changed = whole and self._context is not None and self._name_of(record) != self._name
        if changed:
            self.hints.clear()
        for key in HINTS:
            value = metadata.get(key)
            if value is not None and value != self.hints.get(key):
                self.hints[key] = value
                changed = changed or key == "extradata"
        if changed and self._context is not None:
            self.drain()
            self.forget(gap=False)

    def _is_keyframe(self, packet: av.Packet[Any], metadata: Mapping[str, Any], *, whole: bool) -> bool | None:
        said = metadata.get("is_keyframe") if whole else None
        if isinstance(said, bool):
            return said
        if self._context is not None and self._intra_only:
            return True
        name = self._name or (metadata.get("codec", "h264") if self.codec == "auto" else self.codec)
        return is_keyframe(name, bytes(packet))

    def _damage(self, record: Record, what: str) -> DecodeError:
        self.damaged += 1
        message = f"av decoder ({self._name}), {where(record)}: {what}"
        if self.keep_corrupt:
            return DecodeError(message)
        if self.thread_type == "slice":  # else the damage may be in an earlier packet, and pictures already show it
            self.drain()
        self.forget(gap=True)
        return DecodeError(f"{message}; it goes on at the next keyframe")

    def _emit(self, frame: VideoFrame) -> None:
        sent = self._sent.get(frame.pts) if frame.pts is not None else None
        if sent is None:  # the picture of the damaged packet, as far as libav got with it
            return
        if frame.is_corrupt and not self.keep_corrupt:
            raise self._damage(sent.record, "gives a damaged picture")
        sent.is_out = True
        self._has_fields = frame.interlaced_frame
        if not self._belongs(frame, sent):
            sent.is_out = False
            return
        if sent.key or (sent.key is None and frame.key_frame):
            sent.key = True
            self._trim(sent)
        seq = self._take_number(sent)
        if sent.record.metadata.get("discard") is not True:
            self.ready.append(self._record_of(frame, sent, seq))
            self._gap = False

    def _belongs(self, frame: VideoFrame, sent: _Sent) -> bool:
        """Return whether the pictures that this one refers to were there."""
        if self.keep_corrupt:
            return True
        if self._waiting:  # nobody could say whether the packets were keyframes; the decoder can
            if not frame.key_frame:
                return False
            self._waiting = False
            self._gap = self._gap or sent.record.discontinuity
        if self._first is sent or frame.key_frame:
            self._first = None
        return not self._leads(sent)

    def _leads(self, sent: _Sent) -> bool:
        """Return whether this is shown before the keyframe it was sent after: it refers to pictures before that too."""
        first = self._first
        if first is None or first.pts is None or sent.pts is None or self.keep_corrupt:
            return False
        return sent.pts < first.pts

    def _trim(self, oldest: _Sent) -> None:
        for serial, sent in list(self._sent.items()):
            if sent is oldest:
                return
            self._drop(serial)

    def _drop(self, serial: int) -> None:
        """Let go of a packet, and count it if no picture came of it."""
        if not self._sent.pop(serial).is_out and not self._has_fields:
            self.skipped += 1

    def _record_of(self, frame: VideoFrame, sent: _Sent, seq: int) -> Record:
        packet = sent.record
        try:
            array = to_array(frame, self.pixel_format)
        except (ValueError, av.FFmpegError) as error:
            size = f"{frame.width}x{frame.height} {frame.format.name}"
            raise DecodeError(
                f"av decoder, {where(packet)}: a picture of {size} cannot be made {self.pixel_format!r}: {error}"
            ) from error
        metadata = {key: value for key, value in packet.metadata.items() if key not in _LEFT_OUT}
        if sent.number:
            metadata.pop("pts", None)
        metadata["is_keyframe"] = bool(frame.key_frame)
        metadata["width"], metadata["height"] = frame.width, frame.height
        metadata["pixel_format"] = self.pixel_format
        if frame.is_corrupt:
            metadata["corrupt"] = True
        return Record(
            data=array,
            channel=packet.channel,
            seq=seq,
            time_ns=packet.time_ns + sent.number * self.period_ns,
            coords=packet.coords,
            metadata=metadata,
            parent=packet,
            discontinuity=self._gap,
        )

    def _take_number(self, sent: _Sent) -> int:
        """Return the seq of the picture of this packet.

        In the order of display, pictures take the numbers that their packets have in the order of decoding, beginning
        with each keyframe; so they do not depend on where a decoder began. What is shown before the keyframe that was
        sent before it keeps the number of its packet; a second picture of a packet is numbered as its part.
        """
        numbers = self._numbers
        if sent.key and sent in numbers:
            while numbers[0] is not sent:
                numbers.popleft()
        if numbers and (numbers[0] is sent or not numbers[0].key):
            return numbers.popleft().seq
        if sent in numbers:
            numbers.remove(sent)
            return sent.seq
        sent.more += 1
        return part_number(sent.record.channel, sent.seq, sent.more)


def _seq_of(record: Record, number: int, *, whole: bool) -> int:
    return record.seq if whole else part_number(record.channel, record.seq, number)


def where(record: Record) -> str:
    """Name a packet in a message."""
    return f"packet {record.seq} of channel {record.channel!r}"
