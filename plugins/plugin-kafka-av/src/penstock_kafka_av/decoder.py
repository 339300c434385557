"""AvDecoder: decodes video packets to arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import attrs
import av

from penstock.arguments import checks_arguments
from penstock.component import Remark
from penstock.errors import ConfigError, DecodeError
from penstock.identity import is_leap
from penstock.record import Record
from penstock.short_text import short
from penstock.validators import at_least, finite_seconds, one_of, or_none
from penstock_kafka_av.context import find_decoder
from penstock_kafka_av.decoding import Decoding
from penstock_kafka_av.display import check_can_turn
from penstock_kafka_av.framing import Framing
from penstock_kafka_av.hardware import Hardware, check_hardware
from penstock_kafka_av.lazy import LAZY
from penstock_kafka_av.opening import Opening
from penstock_kafka_av.pace import Pace
from penstock_kafka_av.packet import where
from penstock_kafka_av.parsing import CutStream
from penstock_kafka_av.pixels import check_pixel_format
from penstock_kafka_av.thinning import Skip, Thinning


def _positive_or_auto(_: object, __: object, value: object) -> None:
    if value != "auto" and not (type(value) is int and value > 0):
        raise ConfigError(f"av decoder: threads={short(value)}: must be 'auto' or a number above 0")


def _rate(_: object, __: object, value: Any) -> None:
    if value is not None and not (isinstance(value, int | float) and 0 < value <= 1e6):
        raise ConfigError(f"av decoder: rate={short(value)}: must be frames per second, above 0 and up to 1000000")


@checks_arguments
@attrs.define(kw_only=True, slots=False)
class AvDecoder:
    """Decode the video packets of one channel with PyAV.

    The `parent` of a frame is the packet that contains it, which with B-frames is not the packet decoded last. The n-th
    frame in display order has the `seq` of the n-th packet, so the same packets always yield the same numbers; with
    `packets="stream"`, `seq` is computed from the record in which the packet begins and the packet's number there.
    `coords` are those of the packet. `time_ns` is the packet's if it has a `pts`; else the n-th frame in display order
    gets the time of the n-th packet. `metadata` is the packet's, without the parameters that only a decoder needs, plus
    `width`, `height`, `pixel_format` and `is_keyframe` of the frame; `rotation` (degrees counterclockwise),
    `sample_aspect_ratio` (of a pixel, [width, height]), `interlaced`, and `color_range`, `color_primaries`,
    `color_trc`, `colorspace` with the numbers of ITU-T H.273; `display_matrix` and `field_order` if they are known.

    H.264 and HEVC: the decoder keeps parameter sets, so a channel that sends them only once continues after damage. A
    record without a picture is decoded together with the next one. SEI and parameter sets that libav cannot read are
    left out; the log reports this once.

    A packet that cannot be decoded raises DecodeError; the next call returns frames that were complete by then. Later
    packets refer to the damaged frame, so the decoder skips packets up to the next keyframe and counts them in
    `skipped`, as it does with packets before a channel's first keyframe. The first frame after such a gap has
    `discontinuity=True`. Damage that libav does not detect (codecs without checksums) is not detected here.

    Packets whose frames are left out because of `rate` or `skip` are counted in `thinned`; they are neither lost nor
    `skipped`. `rate` selects the first frame of each 1/rate seconds, counted since 1970, so the same frames wherever
    decoding begins, and those of the same moments from several cameras. Where it begins, the first frame is selected in
    addition if neither the packets nor the codec give a frame rate (MJPEG, VP9 or AV1 from a topic).

    `held()` returns the packets that a restart would need: all since the last keyframe whose own frame was returned. If
    a channel sends no keyframe for `max_held` packets, only the last `max_held` are held, and a restart waits for the
    next keyframe. After `flush`, none are held.

    Attributes:
        codec: One of libav's names ("h264", "hevc", "mjpeg", "vp9", "av1", "ffv1"), or "auto" for the `codec` in the
            packet's metadata, by default "h264".
        pixel_format: Format of the arrays: "bgr24" or "rgb24" are (height, width, 3) uint8, "gray" (height, width)
            uint8, "yuv420p" its planes as (height * 3 / 2, width) uint8, "gray16le" (height, width) uint16; or any
            other that PyAV converts to arrays. Arrays are C-contiguous and belong to the receiver. "lazy" returns
            pictures that become arrays on request (`numpy.asarray`), for code that needs the pixels of only a few.
        packets: "whole" if each record is one packet, "stream" if the stream is split at arbitrary bytes (then `parent`
            is the record in which the frame's packet begins).
        threads: Threads of the decoder; "auto" divides the processors among the decoders that are open in this process,
            at least one each. The conversion of pictures always uses this share.
        thread_type: "slice" adds no delay; "frame" is faster if pictures have one slice, delays each frame by as many
            packets as there are threads, and reports damage as many packets late; "auto" lets libav choose.
        width: Pixels; needed by codecs whose packets do not contain it (raw video), ignored by others.
        height: Pixels; as `width`.
        rate: Maximum frames per second; None returns all. Of a channel with more (by above 5 %, since times jitter),
            the first frame of each period is kept; a frame up to 2 ms early counts to the next period. The others are
            not converted, and not decoded if the packet tells that no frame refers to it. With packets="stream", it is
            the frame rate of the stream instead: frames of one record get different times, and none are left out.
        skip: "nonref" leaves out frames to which no other frame refers (most B-frames); "nonkey" leaves out all but
            keyframes, which are then returned without delay. VP9 and AV1 have no mark outside the compressed header of
            a frame: with AV1, libav leaves out non-reference frames; with VP9, "nonref" leaves out none; and `rate`
            decodes all frames of both.
        keep_corrupt: True returns damaged frames as far as libav can conceal the damage, with `corrupt: True` in the
            metadata if libav detects it, and skips only packets that cannot be decoded at all.
        on_gap: Reaction to a gap in `seq` of the packets: "resync" waits for the next keyframe, since later packets may
            refer to missing ones; "ignore" continues to decode.
        idle_rest_s: In a run, seconds without a packet after which the decoder frees its threads and frames; the next
            packet restores them from the held packets. None never frees them.
        idle_close_s: In a run, seconds without a packet after which the channel ends: the decoder returns its last
            frames and closes. If the channel resumes, it begins at a keyframe. None waits for the end mark or the end.
        hardware: Kind of device for decoding ("cuda", "vaapi", "videotoolbox", …; "cuda:1" and
            "vaapi:/dev/dri/renderD128" select one of several), or "auto" for the first that works. If this libav or the
            machine has none for the codec, frames are decoded in software; the log and the report give the reason. None
            uses no device.
        hardware_missing: "software" allows this fallback; "error" raises DecodeError instead.
        rotate: True rotates frames by multiples of 90 degrees and mirrors them, according to their display matrix.
        max_held: Maximum number of packets kept for `held()` and for finding parents; at least 64.
    """

    takes: ClassVar[str] = "bytes"
    gives: ClassVar[str] = "array"
    own_identity: ClassVar[bool] = True

    codec: str = attrs.field(default="auto")
    pixel_format: str = attrs.field(default="bgr24")
    packets: Literal["whole", "stream"] = attrs.field(default="whole", validator=one_of("whole", "stream"))
    threads: int | Literal["auto"] = attrs.field(default="auto", validator=_positive_or_auto)
    thread_type: Literal["slice", "frame", "auto"] = attrs.field(
        default="slice", validator=one_of("slice", "frame", "auto")
    )
    width: int | None = attrs.field(default=None, validator=or_none(at_least(1)))
    height: int | None = attrs.field(default=None, validator=or_none(at_least(1)))
    rate: float | None = attrs.field(default=None, validator=_rate)
    keep_corrupt: bool = attrs.field(default=False)
    on_gap: Literal["resync", "ignore"] = attrs.field(default="resync", validator=one_of("resync", "ignore"))
    idle_rest_s: float | None = attrs.field(default=10.0, validator=or_none(finite_seconds))
    idle_close_s: float | None = attrs.field(default=None, validator=or_none(finite_seconds))
    skip: Skip | None = attrs.field(default=None, validator=or_none(one_of("nonref", "nonkey")))
    hardware: str | None = attrs.field(default=None, validator=check_hardware)
    hardware_missing: Literal["software", "error"] = attrs.field(
        default="software", validator=one_of("software", "error")
    )
    rotate: bool = attrs.field(default=False)
    max_held: int = attrs.field(default=1024, validator=at_least(64))

    _engine: Decoding | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _cuts: CutStream | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _last_seq: int | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _channel: str = attrs.field(default="", init=False, eq=False, repr=False)
    _has_frames: bool = attrs.field(default=False, init=False, eq=False, repr=False)
    _has_ended: bool = attrs.field(default=False, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Declare `gives="any"` if the pictures are lazy."""
        if self.pixel_format == LAZY:
            self.__dict__["gives"] = "any"

    @property
    def skipped(self) -> int:
        """Number of packets without a frame, because of earlier damage, a gap, or a missing keyframe."""
        return self._engine.skipped if self._engine is not None else 0

    @property
    def damaged(self) -> int:
        """Number of packets and frames that could not be decoded."""
        return self._engine.damaged if self._engine is not None else 0

    @property
    def thinned(self) -> int:
        """Number of packets whose frames were left out because of `rate` or `skip`."""
        return self._engine.thinned if self._engine is not None else 0

    def remarks(self) -> Sequence[Remark]:
        """Return a warning if `hardware` selects a device and is not used, or if no packet gave a frame."""
        found = []
        if self._has_ended and not self._has_frames and self.skipped:
            found.append(
                f"none of {self.skipped} packets of channel {self._channel[:80]!r} gave a frame: compare "
                f"codec={self.codec!r} with the stream, and check that it has keyframes"
            )
        hardware = self._engine.opening.hardware if self._engine is not None else None
        if hardware is not None and (fallback := hardware.remark()):
            found.append(fallback)
        return [Remark(each, "warning") for each in found]

    def open(self) -> None:
        """Check the settings against the installed libav. Raises ConfigError."""
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
        """Release libav's decoder; buffered frames are lost."""
        self.reset()

    def decode(self, record: Record) -> Sequence[Record]:
        """Return the frames that this packet completes.

        Raises:
            DecodeError: the data are not bytes or empty, libav does not know the codec, or the packet is damaged.
        """
        engine = self._started()
        data = _bytes_of(record)
        leapt = self._last_seq is not None and is_leap(self._last_seq, record.seq)
        self._last_seq, self._channel = record.seq, record.channel
        if leapt and self.on_gap == "resync":
            engine.drain()
            engine.forget(gap=True)
            self._cuts = None
        if self.packets == "whole":
            engine.send(data, record, number=0, whole=True)
            return self._taken(engine)
        failure: DecodeError | None = None
        for packet, begins_in, number in self._feed(engine, record, data):
            try:
                engine.send(bytes(packet), begins_in, number=number, whole=False)
            except DecodeError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return self._taken(engine)

    def flush(self) -> Sequence[Record]:
        """Return the last frames; damage detected only now is counted in `damaged`."""
        engine = self._started()
        if self._cuts is not None:
            for packet, begins_in, number in self._cuts.flush():
                # the engine counted it; raising would lose later frames
                with contextlib.suppress(DecodeError):
                    engine.send(bytes(packet), begins_in, number=number, whole=False)
            self._cuts = None
        engine.drain()
        engine.forget(gap=False)
        self._has_ended = True
        return self._taken(engine)

    def reset(self) -> None:
        """Forget everything and wait for the next keyframe; buffered frames are lost."""
        self._cuts = None
        self._last_seq = None
        if self._engine is not None:
            self._engine.forget(gap=True)
            self._engine.ready.clear()

    def rest(self) -> None:
        """Free threads and frames, without loss: the next packet restores them."""
        if self._engine is not None and self._cuts is None:
            self._engine.rest()

    def held(self) -> Sequence[Record]:
        """Return the packets that a restart would need; see the class."""
        if self._engine is None:
            return ()
        records = {id(record): record for record in self._engine.held()}
        if self._cuts is not None:
            records.update((id(record), record) for record in self._cuts.unfinished())
        return tuple(records.values())

    def unseen(self) -> Sequence[Record]:
        """Return the packets whose frames are still to come: a subset of `held()`, not sufficient to decode them."""
        return tuple(self._engine.unseen()) if self._engine is not None else ()

    def _taken(self, engine: Decoding) -> Sequence[Record]:
        frames = tuple(engine.ready)
        engine.ready.clear()
        if frames:
            self._has_frames = True
        return frames

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
                f"av decoder, {where(record)}: {error}, so packets='stream' does not work with it; "
                "send whole packets and set packets='whole'"
            ) from error


def _bytes_of(record: Record) -> bytes:
    data = record.data
    if not isinstance(data, bytes):
        try:
            data = memoryview(data).tobytes()
        except TypeError as error:
            kind = type(data).__name__
            raise DecodeError(
                f"av decoder, {where(record)}: data is {kind}, not bytes; connect it to a source of packets"
            ) from error
    if not data:
        raise DecodeError(f"av decoder, {where(record)}: the packet is empty; filter empty packets out at the source")
    return data
