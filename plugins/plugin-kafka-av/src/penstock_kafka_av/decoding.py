"""Decoding: one libav decoder, the packets sent to it, and the frames that are ready."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import attrs
import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from penstock.errors import DecodeError
from penstock.identity import part_number
from penstock.record import Record
from penstock_kafka_av.context import find_decoder, wait_until_idle
from penstock_kafka_av.framing import Framing
from penstock_kafka_av.keyframe import has_idr, is_keyframe
from penstock_kafka_av.left_out import LeftOut
from penstock_kafka_av.oddities import Oddities
from penstock_kafka_av.opening import Opening
from penstock_kafka_av.order import DisplayOrder
from penstock_kafka_av.packet import packet_of, where
from penstock_kafka_av.parameter_sets import ParameterSets
from penstock_kafka_av.parameters import PARAMETERS, REOPEN
from penstock_kafka_av.sent_packets import Sent, SentPackets
from penstock_kafka_av.thinning import Thinning
from penstock_kafka_av.threads import SHARE


@attrs.define(eq=False)
class Decoding:
    """Send packets to libav, and match its frames with them.

    Each packet is sent with a serial number as its pts. Decoders copy the pts to the frame in any order, so the serial
    number identifies the packet of a frame. The packet is kept as long as it may be needed.
    """

    codec: str
    opening: Opening
    keep_corrupt: bool
    max_held: int
    period_ns: int
    hints: dict[str, Any]
    framing: Framing
    thinning: Thinning = attrs.field(factory=Thinning)

    damaged: int = 0
    ready: deque[Record] = attrs.field(factory=deque)
    _context: VideoCodecContext | None = None
    _name: str = ""
    _intra_only: bool = False
    _sets: ParameterSets = attrs.field(factory=ParameterSets)
    _oddities: Oddities | None = None  # since the first odd unit
    _order: DisplayOrder = attrs.field(factory=DisplayOrder)
    _skipped: int = 0
    _sent: SentPackets = attrs.field(init=False)
    _serial: int = 0
    _waiting: bool = True  # for a keyframe
    _first: Sent | None = None  # the keyframe that ended the wait, until its frame is out
    _is_open_group: bool = False  # open GOP: leading frames may precede `_first` and refer to frames before it
    _gap: bool = False
    _is_resting: bool = False
    _left_out: LeftOut = attrs.field(factory=LeftOut)
    _informed: Record | None = None  # the last one with codec parameters
    _informed_at: int = 0
    _share: int = 1  # its number of this process's threads
    _ratio: Fraction | None = None  # of a pixel, according to the codec
    _library_skips: Any = None  # the kind of frames that libav leaves out

    def __attrs_post_init__(self) -> None:
        """Create the container of sent packets, of `max_held`."""
        self._sent = SentPackets(self.max_held)

    @property
    def skipped(self) -> int:
        """Number of packets without a frame, other than those that raised an error."""
        return self._skipped + (0 if self._library_skips else self._sent.unshown)

    @property
    def thinned(self) -> int:
        """Number of packets whose frames were left out because of `rate` or `skip`."""
        return self.thinning.count + (self._sent.unshown if self._library_skips else 0)

    def send(self, data: bytes, record: Record, *, number: int, whole: bool) -> None:
        """Decode one packet, the `number`-th that begins in this record; frames go to `ready`. Raises DecodeError."""
        self._adapt(record, whole=whole)
        name = self._name or self._name_of(record)
        try:
            unit = self._sets.take(name, data, record)
        except ValueError as error:
            raise self._damage(record, str(error)) from error
        if unit is None:
            return
        self.thinning.note(record)
        key = self._is_keyframe(name, unit, record.metadata, whole=whole)
        if key is not False:
            self._sets.note_header(name, unit)
        if self._waiting and key is False and not self.keep_corrupt:
            self._skipped += 1
            self._left_out.note(record)
            return
        if whole and record.metadata.get("corrupt") is True and not self.keep_corrupt:
            raise self._damage(record, "was damaged in transmission")
        by_pts = number == 0 and not str(record.metadata.get("time_from", "")).endswith("+rate")
        pts = record.metadata.get("pts") if by_pts else None
        sent = Sent(record, number, key, pts if type(pts) is int else None)
        is_left_out = self.thinning.is_on and self._is_left_out(sent, unit)
        serial = self._serial
        if not is_left_out or sent.pts is not None:  # without pts, a frame that is left out has no place
            self._serial += 1
            self._order.sent(
                serial,
                seq=record.seq if whole else self.framing.part(record, number),
                time_ns=record.time_ns + number * self.period_ns,
                pts=sent.pts,
            )
        if is_left_out:
            self._gap = self._gap or (self._waiting and record.discontinuity)
            if not self._waiting:  # held with its neighbours, so that a restart sees no gap
                sent.is_out = True
                self._sent.add(-self.thinning.count, sent)
            return
        if self._is_leading(sent):
            self._skipped += 1
            return
        if self._is_resting:
            self._restore(record)
        if self._context is None:
            self._context = self._open(record)
            unit = self._sets.lead(self._name, unit)
        sent.unit = unit
        if self._waiting and key:
            self._waiting, self._first = False, sent
            self._left_out.end(record)
            self._is_open_group = self._name == "h264" and not has_idr(unit)
            self._gap = self._gap or record.discontinuity
        self._sent.add(serial, sent)
        try:
            frames = self._decode(unit, sent, serial)
            if self.thinning.only_keyframes and key:  # no later frame is shown before it
                frames += self._context.decode(None)
                self._context.flush_buffers()
        except av.FFmpegError as error:
            self._sent.refused(serial)
            if self._first is not None and self._is_open_group and sent is not self._first:
                self._skipped += 1  # a leading frame of an open GOP, recognised by its failure if there is no pts
                return
            raise self._damage(record, f"cannot be decoded ({error.strerror})") from error
        self._note_stream(self._context)
        for frame in frames:
            self._emit(frame)

    def find(self, record: Record) -> av.Codec:
        """Return the codec of this packet: the configured one, or that of its metadata. Raises DecodeError."""
        name = self._name_of(record)
        try:
            codec = find_decoder(name)
        except ValueError as error:
            raise DecodeError(f"av decoder, {where(record)}: {error}; set codec=… or correct the metadata") from error
        self._name, self._intra_only = name, codec.intra_only
        return codec

    def rest(self) -> None:
        """Free libav's decoder with its threads and frames; `_restore` restores its state from the held packets."""
        if self._context is None or self._waiting or not self._sent.can_begin_again():
            return
        wait_until_idle(self._take_context())
        self.framing.rest()
        self._is_resting = True

    def _restore(self, record: Record) -> None:
        """Decode the held packets again, and emit only the frames that are not out yet."""
        wait_until_idle(self._take_context())
        self._is_resting = False
        self._context = self._open(record)
        lead = True
        for serial, sent in self._sent.items():
            if not sent.unit:  # left out
                continue
            unit = self._sets.lead(self._name, sent.unit) if lead else sent.unit
            lead = False
            try:
                frames = self._decode(unit, sent, serial)
            except av.FFmpegError:  # it was decoded before; if that fails now, resume at the next keyframe
                self.forget(gap=True)
                return
            for frame in frames:
                again = self._sent.get(frame.pts or 0)
                if again is None or not again.is_out:
                    self._emit(frame)

    def _take_context(self) -> VideoCodecContext | None:
        context, self._context = self._context, None
        SHARE.leave(self)
        return context

    def drain(self) -> None:
        """Emit the decoder's last frames; errors are counted in `damaged`, since raising them would lose frames."""
        first = self._sent.first()
        if self._is_resting and first is not None:
            self._restore(first.record)
        context = self._take_context()
        if context is None or not context.is_open:
            return
        try:
            frames = context.decode(None)
            self._note_stream(context)
        except av.FFmpegError:
            self.damaged += 1
            return
        finally:
            wait_until_idle(context)
        for frame in frames:
            try:
                self._emit(frame)
            except DecodeError:  # already counted
                return

    def forget(self, *, gap: bool) -> None:
        """Forget all packets and wait for the next keyframe; with `gap`, mark its frame as a discontinuity.

        Parameter sets are kept: a stream may send them only once, at its start.
        """
        wait_until_idle(self._take_context())
        self._is_resting = False
        self._skipped += self._left_out.give_up(self._sets.drop_ahead())
        self._order.clear()
        self._informed = None
        self._sent.clear()
        self._waiting, self._first = True, None
        self._gap = gap and self._serial > 0

    def held(self) -> Iterator[Record]:
        """Yield the records of the held packets."""
        if self._intra_only and self._informed is not None and self._serial - self._informed_at <= self.max_held:
            yield self._informed
        yield from self._sent.records()
        yield from self._sets.ahead

    def unseen(self) -> Iterator[Record]:
        """Yield the records whose frames are still to come."""
        yield from self._sent.unseen()
        yield from self._sets.ahead

    def _name_of(self, record: Record) -> str:
        name = record.metadata.get("codec", "h264") if self.codec == "auto" else self.codec
        if not isinstance(name, str):
            raise DecodeError(f"av decoder, {where(record)}: metadata 'codec' is {name!r}, not a name; set codec=…")
        return name

    def _open(self, record: Record) -> VideoCodecContext:
        codec = self.find(record)
        self._library_skips = self.thinning.asks_library(self._name)
        self._share = SHARE.join(self)
        return self.opening.context(
            codec, self._name, where=where(record), share=self._share, skip_frame=self._library_skips, hints=self.hints
        )

    def _note_stream(self, context: VideoCodecContext) -> None:
        self._ratio = context.sample_aspect_ratio
        self.thinning.note_codec(context)

    def _adapt(self, record: Record, *, whole: bool) -> None:
        """Restart for packets of another codec, or if parameters changed that need a new decoder."""
        metadata = record.metadata
        other = whole and bool(self._name) and self._name_of(record) != self._name
        if other:
            self.hints.clear()
        changed = other and self._context is not None
        for key in PARAMETERS:
            value = metadata.get(key)
            if value is not None and value != self.hints.get(key):
                self.hints[key] = value
                changed = changed or key in REOPEN
        if "pix_fmt" in metadata or "extradata" in metadata:
            self._informed, self._informed_at = record, self._serial
        if changed and self._context is not None:
            self.drain()
            self.forget(gap=False)
        if other:
            self._sets.clear()
            self._name, self._oddities = "", None

    def _is_left_out(self, sent: Sent, unit: bytes) -> bool:
        """Return whether this packet need not be decoded, because of `rate` or `skip`."""
        record = sent.record
        is_timed = sent.pts is not None or (self._context is not None and not self._context.has_b_frames)
        return self.thinning.leaves_out(
            self._name or self._name_of(record),
            unit,
            key=sent.key,
            time_ns=record.time_ns,
            is_timed=is_timed,
            is_alone=self._context is not None and self._intra_only and "side_data" not in record.metadata,
            is_annex_b=not self._sent.has_fields and not bytes(self.hints.get("extradata") or b"").startswith(b"\x01"),
        )

    def _is_keyframe(self, name: str, unit: bytes, metadata: Mapping[str, Any], *, whole: bool) -> bool | None:
        declared = metadata.get("is_keyframe") if whole else None
        if isinstance(declared, bool):
            return declared
        if self._context is not None and self._intra_only:
            return True
        return is_keyframe(name, unit)

    def _decode(self, unit: bytes, sent: Sent, serial: int) -> list[VideoFrame]:
        """Decode the picture strictly, without odd units beside it, which are reported once."""
        assert self._context is not None
        side_data = sent.record.metadata.get("side_data")
        late = self.opening.thread_type != "slice"  # errors are reported packets later, too late for a second attempt
        if (late or self._oddities is not None) and not self.keep_corrupt:
            unit = self._without_oddities(unit, sent.record) or unit
            return self._context.decode(packet_of(unit, serial, key=bool(sent.key), side_data=side_data))
        try:
            return self._context.decode(packet_of(unit, serial, key=bool(sent.key), side_data=side_data))
        except av.FFmpegError:
            mended = None if self.keep_corrupt else self._without_oddities(unit, sent.record)
            if mended is None:
                raise
            if self._oddities is not None and self._oddities.begun:
                self._restore(sent.record)
                return []
            return self._context.decode(packet_of(mended, serial, key=bool(sent.key), side_data=side_data))

    def _without_oddities(self, unit: bytes, record: Record) -> bytes | None:
        oddities = self._oddities or Oddities(self._name)
        mended = oddities.without(unit, self._sets.all())
        if mended is not None and self._oddities is None:
            self._oddities = oddities
            oddities.report(record)
        return mended

    def _damage(self, record: Record, what: str) -> DecodeError:
        self.damaged += 1
        message = f"av decoder ({self._name or self._name_of(record)}), {where(record)}: {what}"
        if self.keep_corrupt:
            return DecodeError(message)
        # with "frame", an earlier packet may be damaged, and buffered frames already show it
        if self.opening.thread_type == "slice":
            self.drain()
        self.forget(gap=True)
        return DecodeError(f"{message}; decoding resumes at the next keyframe")

    def _emit(self, frame: VideoFrame) -> None:
        sent = self._sent.get(frame.pts)
        if sent is None:  # the partial frame of a damaged packet
            return
        if frame.is_corrupt and not self.keep_corrupt:
            raise self._damage(sent.record, "yields a damaged frame")
        sent.is_out = True
        self._sent.has_fields = frame.interlaced_frame
        if not self._is_complete(frame, sent):
            sent.is_out = False
            return
        key = bool(sent.key or (sent.key is None and frame.key_frame))
        place = self._order.shown(frame.pts or 0, pts=sent.pts, is_key=key)
        if key:
            sent.key = True
            self._sent.drop_before(sent)
        seq, time_ns = place or self._further_place(sent)
        if sent.pts is not None:
            time_ns = sent.record.time_ns
        if not self.thinning.wants(time_ns, sent.record, is_key=key):
            return
        made = self.framing.record_of(
            frame, sent.record, number=sent.number, seq=seq, time_ns=time_ns, discontinuity=self._gap,
            hints=self.hints, ratio=self._ratio, threads=self.opening.threads or self._share,
        )  # fmt: skip
        self.ready.append(made)
        self._gap = False

    def _further_place(self, sent: Sent) -> tuple[int, int]:
        """Return number and time of a further frame of a packet that already yielded one: a part of it."""
        sent.more += 1
        record = sent.record
        number = part_number(record.channel, record.seq, sent.number) if sent.number else record.seq
        return part_number(record.channel, number, sent.more), record.time_ns + sent.number * self.period_ns

    def _is_complete(self, frame: VideoFrame, sent: Sent) -> bool:
        """Return whether the frames that this one refers to were decoded."""
        if self.keep_corrupt:
            return True
        if self._waiting:  # the packets did not tell whether they were keyframes; the frame does
            if not frame.key_frame:
                return False
            self._waiting = False
            self._gap = self._gap or sent.record.discontinuity
        if self._first is sent or frame.key_frame:
            self._first = None
        return not self._is_leading(sent)

    def _is_leading(self, sent: Sent) -> bool:
        """Return whether this is a leading frame: shown before its keyframe, it may refer to frames before that."""
        first = self._first
        return first is not None and not self.keep_corrupt and sent.comes_before(first)
