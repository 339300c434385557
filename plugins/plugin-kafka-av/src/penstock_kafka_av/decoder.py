"""AvDecoder: video packets in, arrays out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import attrs
import av
from attrs.validators import ge, in_, instance_of, optional

from penstock.errors import ConfigError, DecodeError
from penstock.identity import is_leap
from penstock.record import Record
from penstock.validators import finite_seconds, or_none
from penstock_kafka_av.context import find_decoder
from penstock_kafka_av.decoding import Decoding, where
from penstock_kafka_av.display import check_can_turn
from penstock_kafka_av.framing import Framing
from penstock_kafka_av.hardware import Hardware, check_hardware
from penstock_kafka_av.lazy import LAZY
from penstock_kafka_av.opening import Opening
from penstock_kafka_av.pace import Pace
from penstock_kafka_av.parsing import CutStream
from penstock_kafka_av.pixels import check_pixel_format
from penstock_kafka_av.thinning import Skip, Thinning


def _positive_or_auto(_: object, __: object, value: object) -> None:
    if value != "auto" and not (type(value) is int and value > 0):
        raise ConfigError(f"av decoder: threads={value!r}: must be 'auto' or a number above 0")


def _rate(_: object, __: object, value: Any) -> None:
    if value is not None and not (isinstance(value, int | float) and 0 < value <= 1e6):
        raise ConfigError(f"av decoder: rate={value!r}: must be frames per second, above 0 and up to 1000000")


@attrs.define(kw_only=True, slots=False)
class AvDecoder:
    """Decode the video packets of one channel with PyAV.

    Each frame comes with the packet that holds it as `parent`: with B-frames not the packet decoded last. The n-th
    picture that is shown has the `seq` of the n-th packet, so that the same packets always give the same numbers; in a
    stream that was cut anywhere it is computed from the record in which the packet begins and its number there.
    `coords` are those of the packet. `time_ns` is that of the packet where it has a `pts`; else the n-th picture that
    is shown gets the time of the n-th packet. `metadata` is the packet's, without what only a decoder needs, and with
    `width`, `height`, `pixel_format` and `is_keyframe` of the frame; `rotation` (degrees counterclockwise),
    `sample_aspect_ratio` (of a pixel, [width, height]), `interlaced`, and `color_range`, `color_primaries`,
    `color_trc`, `colorspace` as ITU-T H.273 numbers them; `display_matrix` and `field_order` if they are known.

    H.264 and HEVC: parameter sets are kept, so that a channel that sends them only once goes on after damage; records
    that hold no picture belong to the one behind them. SEI and parameter sets that libav cannot read are left out and
    said once in the log.

    A packet that cannot be decoded raises DecodeError; frames that were whole by then come with the next call. What
    follows refers to the damaged picture, so packets up to the next keyframe are left out and counted in `skipped`.
    So are packets before the first keyframe, of a channel that was joined in the middle. The first frame after such a
    gap has `discontinuity=True`. Damage that libav does not notice (a codec without checksums) is not noticed here.

    Packets whose pictures are left out because of `rate` or `skip` are counted in `thinned`, and stay the parents of
    none: they are neither lost nor `skipped`. Which frames `rate` chooses depends on where decoding began.

    `held()` names the packets that a restart would need: all from the last keyframe whose own frame is out. If a
    channel sends no keyframe for `max_held` packets, only the last `max_held` are named, and a restart waits for the
    next keyframe. After `flush` it names none.

    Attributes:
        codec: A name of libav's ("h264", "hevc", "mjpeg", "vp9", "av1", "ffv1"), or "auto": what the packet's
            metadata says under `codec`, or "h264" if nothing.
        pixel_format: What the arrays hold: "bgr24" or "rgb24" are (height, width, 3) uint8, "gray" (height, width)
            uint8, "yuv420p" its planes as (height * 3 / 2, width) uint8, "gray16le" (height, width) uint16; any other
            that PyAV converts to arrays. Arrays are C-contiguous and belong to the receiver. "lazy" gives pictures that
            become arrays on request (`numpy.asarray`), for code that needs the pixels of a few only.
        packets: "whole" if each record is one packet, "stream" if the stream was cut anywhere (then `parent` is the
            record in which the frame's packet begins).
        threads: Threads of the decoder; "auto" divides the processors among the decoders that are open in this process,
            at least one each. Pictures are converted with this share, too, whatever is set here.
        thread_type: "slice" adds no delay; "frame" is faster where pictures have one slice, delays each frame by as
            many packets as there are threads, and tells of damage as many packets late; "auto" lets libav choose.
        width: Pixels; needed by codecs that do not say it themselves (raw video). Others overrule it.
        height: Pixels; likewise.
        rate: Frames per second that are wanted; None wants all. Of a channel that has more, the frames nearest to these
            times remain. The others are not converted, and not decoded where the packet says that no other picture
            refers to it. In a stream that was cut anywhere, records have times and frames have none: there, it is the
            rate of the stream, by which frames of one record get times of their own, and nothing is left out.
        skip: "nonref" leaves out pictures that no other picture refers to (most B-frames); "nonkey" leaves out all but
            keyframes, which then come without delay. What codecs do not say is decoded (VP9, AV1).
        keep_corrupt: True gives damaged pictures, painted over as libav can, with `corrupt: True` in the metadata
            where libav knows, and skips nothing but what cannot be decoded at all.
        on_gap: What to do when `seq` of the packets leaps: "resync" waits for the next keyframe, since what follows may
            refer to what is missing; "ignore" decodes on.
        idle_rest_s: In a run, seconds without a packet after which the decoder gives up its threads and pictures; the
            next packet brings them back from those that are held. None never does.
        idle_close_s: In a run, seconds without a packet after which the channel is over: its last frames are given, and
            the decoder is closed. If it comes back, it begins at a keyframe. None waits for the end mark or the end.
        hardware: A kind of device that decodes ("cuda", "vaapi", "videotoolbox", …; "cuda:1" and
            "vaapi:/dev/dri/renderD128" name one of several), or "auto" for the first that works. Where this libav or
            the machine has none for the codec, pictures are decoded in software; the log and the report say so, with
            the reason. None asks for no device.
        hardware_missing: "software" is that fall-back; "error" refuses it.
        rotate: True turns and mirrors pictures as their display matrix says, by quarters of a turn.
        max_held: The most packets kept for `held()` and for finding parents; at least 64.
    """

    takes: ClassVar[str] = "bytes"
    gives: ClassVar[str] = "array"
    own_identity: ClassVar[bool] = True

    codec: str = attrs.field(default="auto", validator=instance_of(str))
    pixel_format: str = attrs.field(default="bgr24", validator=instance_of(str))
    packets: Literal["whole", "stream"] = attrs.field(default="whole", validator=in_(("whole", "stream")))
    threads: int | Literal["auto"] = attrs.field(default="auto", validator=_positive_or_auto)
    thread_type: Literal["slice", "frame", "auto"] = attrs.field(
        default="slice", validator=in_(("slice", "frame", "auto"))
    )
    width: int | None = attrs.field(default=None, validator=optional([instance_of(int), ge(1)]))
    height: int | None = attrs.field(default=None, validator=optional([instance_of(int), ge(1)]))
    rate: float | None = attrs.field(default=None, validator=_rate)
    keep_corrupt: bool = attrs.field(default=False, validator=instance_of(bool))
    on_gap: Literal["resync", "ignore"] = attrs.field(default="resync", validator=in_(("resync", "ignore")))
    idle_rest_s: float | None = attrs.field(default=10.0, validator=or_none(finite_seconds))
    idle_close_s: float | None = attrs.field(default=None, validator=or_none(finite_seconds))
    skip: Skip | None = attrs.field(default=None, validator=optional(in_(("nonref", "nonkey"))))
    hardware: str | None = attrs.field(default=None, validator=check_hardware)
    hardware_missing: Literal["software", "error"] = attrs.field(
        default="software", validator=in_(("software", "error"))
    )
    rotate: bool = attrs.field(default=False, validator=instance_of(bool))
    max_held: int = attrs.field(default=1024, validator=[instance_of(int), ge(64)])

    _engine: Decoding | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _cuts: CutStream | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _last_seq: int | None = attrs.field(default=None, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Say what this one gives: no arrays, if it leaves them to others."""
        if self.pixel_format == LAZY:
            self.__dict__["gives"] = "any"

    @property
    def skipped(self) -> int:
        """Packets of which no picture came, because of damage or a gap before them, or without a keyframe."""
        return self._engine.skipped if self._engine is not None else 0

    @property
    def damaged(self) -> int:
        """Packets and pictures that could not be decoded."""
        return self._engine.damaged if self._engine is not None else 0

    @property
    def thinned(self) -> int:
        """Packets whose picture was left out because of `rate` or `skip`."""
        return self._engine.thinned if self._engine is not None else 0

    def remark(self) -> str:
        """Return that pictures are decoded in software though `hardware` asks for a device; "" if it is not so."""
        hardware = self._engine.opening.hardware if self._engine is not None else None
        return hardware.remark() if hardware is not None else ""

    def open(self) -> None:
        """Check the settings against this libav. Raises ConfigError."""
        if self.hardware is not None and self.hardware_missing == "error" and (why := Hardware(self.hardware).check()):
            raise ConfigError(
                f"av decoder: hardware={self.hardware!r}: {why}; hardware_missing='software' decodes without"
            )
        if self.codec != "auto":
            try:
                find_decoder(self.codec)
            except ValueError as error:
                raise ConfigError(f"av decoder: {error}") from error
        if self.pixel_format != LAZY:
            check_pixel_format(self.pixel_format)
        if self.rotate:
            check_can_turn(self.pixel_format)

    def close(self) -> None:
        """Release libav's decoder; buffered pictures are lost."""
        self.reset()

    def decode(self, record: Record) -> Sequence[Record]:
        """Return the frames that this packet completes.

        Raises:
            DecodeError: it holds no bytes, its codec is not known to libav, or it is damaged.
        """
        engine = self._started()
        data = _bytes_of(record)
        leapt = self._last_seq is not None and is_leap(self._last_seq, record.seq)
        self._last_seq = record.seq
        if leapt and self.on_gap == "resync":
            engine.drain()
            engine.forget(gap=True)
            self._cuts = None
        if self.packets == "whole":
            engine.send(data, record, number=0, whole=True)
            return _taken(engine)
        failure: DecodeError | None = None
        for packet, begins_in, number in self._feed(engine, record, data):
            try:
                engine.send(bytes(packet), begins_in, number=number, whole=False)
            except DecodeError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return _taken(engine)

    def flush(self) -> Sequence[Record]:
        """Return the last frames; damage that shows only now is counted in `damaged`."""
        engine = self._started()
        if self._cuts is not None:
            for packet, begins_in, number in self._cuts.flush():
                # it is counted; raising it would lose the frames behind it
                with contextlib.suppress(DecodeError):
                    engine.send(bytes(packet), begins_in, number=number, whole=False)
            self._cuts = None
        engine.drain()
        engine.forget(gap=False)
        return _taken(engine)

    def reset(self) -> None:
        """Forget everything and wait for the next keyframe; frames that are still inside are lost."""
        self._cuts = None
        self._last_seq = None
        if self._engine is not None:
            self._engine.forget(gap=True)
            self._engine.ready.clear()

    def rest(self) -> None:
        """Give up threads and pictures, but no state: the next packet brings them back."""
        if self._engine is not None and self._cuts is None:
            self._engine.rest()

    def held(self) -> Sequence[Record]:
        """Return the packets that a restart would need: see the class."""
        if self._engine is None:
            return ()
        records = {id(record): record for record in self._engine.held()}
        if self._cuts is not None:
            records.update((id(record), record) for record in self._cuts.unfinished())
        return tuple(records.values())

    def unseen(self) -> Sequence[Record]:
        """Return the packets of which a picture is still to come: fewer than `held()`, and not enough to decode it."""
        return tuple(self._engine.unseen()) if self._engine is not None else ()

    def _started(self) -> Decoding:
        if self._engine is None:
            sizes = {"width": self.width, "height": self.height}
            self._engine = Decoding(
                codec=self.codec,
                opening=Opening(
                    threads=0 if self.threads == "auto" else self.threads,
                    thread_type=self.thread_type,
                    strict=not self.keep_corrupt,
                    hardware=Hardware(self.hardware) if self.hardware is not None else None,
                    needs_hardware=self.hardware_missing == "error",
                ),
                keep_corrupt=self.keep_corrupt,
                max_held=self.max_held,
                period_ns=round(1e9 / self.rate) if self.rate else 0,
                hints={key: value for key, value in sizes.items() if value is not None},
                framing=Framing(pixel_format=self.pixel_format, rotate=self.rotate),
                thinning=Thinning(skip=self.skip, pace=self._pace()),
            )
        return self._engine

    def _pace(self) -> Pace | None:
        return Pace(self.rate) if self.rate is not None and self.packets == "whole" else None

    def _feed(self, engine: Decoding, record: Record, data: bytes) -> Iterable[tuple[av.Packet[Any], Record, int]]:
        if self._cuts is None:
            self._cuts = CutStream(engine.find(record))
        try:
            return self._cuts.feed(record, data)
        except ValueError as error:
            raise DecodeError(
                f"av decoder, {where(record)}: {error}, so its streams cannot be cut anywhere; "
                "send whole packets and set packets='whole'"
            ) from error


def _taken(engine: Decoding) -> Sequence[Record]:
    frames = tuple(engine.ready)
    engine.ready.clear()
    return frames


def _bytes_of(record: Record) -> bytes:
    data = record.data
    if not isinstance(data, bytes):
        try:
            data = memoryview(data).tobytes()
        except TypeError as error:
            kind = type(data).__name__
            raise DecodeError(
                f"av decoder, {where(record)}: data is {kind}, not bytes; put it behind a source of packets"
            ) from error
    if not data:
        raise DecodeError(f"av decoder, {where(record)}: the packet is empty; filter empty packets out at the source")
    return data
