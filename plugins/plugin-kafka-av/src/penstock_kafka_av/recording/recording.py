"""Recording: writes the video of one channel, segment by segment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import av

from penstock.errors import RecordExistsError, StoreError
from penstock.record import Record
from penstock_kafka_av.recording.encoding import Encoder, Encoding, as_picture, size_of
from penstock_kafka_av.recording.journal import KIND
from penstock_kafka_av.recording.known import Runs
from penstock_kafka_av.recording.muxing import Muxable, Muxer, Track, plain_of
from penstock_kafka_av.recording.naming import Naming, name_of
from penstock_kafka_av.recording.passing import Passed, Passing
from penstock_kafka_av.recording.segment import Cutting, Segment
from penstock_kafka_av.recording.segment_file import SegmentFile
from penstock_kafka_av.recording.timing import Clock


@attrs.define(eq=False)
class Recording:
    """Write the frames or packets of one channel to successive files.

    Attributes:
        where: Prefix of error messages.
        channel: The channel.
        suffix: The suffix of the files, which selects their format.
        cutting: The limits of a file.
        encoder: The settings of the encoder for frames.
        packet_codec: The codec of packets without `codec` in their metadata.
        naming: The names of the files.
        known: The numbers of the records that are in videos already.
        track: The track of the last packets, with which a file can begin between keyframes; None before the first.
    """

    where: str
    channel: str
    suffix: str
    cutting: Cutting
    encoder: Encoder
    packet_codec: str
    naming: Naming
    known: Runs
    track: Track | None = None
    _segment: Segment | None = None
    _encoding: Encoding | None = None
    _passing: Passing | None = None
    _ahead: tuple[int, ...] = ()  # records of parameter sets, which precede the next packet
    _is_of_frames: bool = False
    _key: tuple[int, int, str] | None = None  # size and pixel format of the frames
    _is_stuck: bool = False

    def write(self, record: Record) -> None:
        """Add a record.

        Raises:
            RecordExistsError: a record with this number is in a video already.
            StoreError: the record cannot be written; not retryable.
            OSError: writing failed and may be retried; the record was not added.
        """
        if record.seq in self.known and self.naming.when_exists in ("error", "skip"):
            if self.naming.when_exists == "skip":
                return
            raise RecordExistsError(
                f"{self.where}: {name_of(record)} is in a video already; set when_exists='skip' for records that "
                "repeat after a restart"
            )
        if self._is_stuck:
            self._flush()
        data = record.data
        if isinstance(data, bytes | bytearray | memoryview):
            self._write_packet(bytes(data), record)
        else:
            self._write_frame(record)
        self.known.add(record.seq, record.seq)

    def flush_if_due(self) -> None:
        """Write the pending packets if there are many; an error is reported by the next call that can."""
        if self._segment is not None and self._segment.is_due:
            try:
                self._flush()
            except OSError:
                self._is_stuck = True

    def sync(self) -> None:
        """Make everything written durable; frames buffered in the encoder end a GOP. Raises OSError."""
        self._drain()
        if self._segment is not None:
            self._flush()
            self._segment.file.sync()

    def finish(self) -> None:
        """End the segment, and rename it to its final name. Raises OSError; a retry is possible."""
        self._drain()
        if self._segment is not None:
            self._flush()
            self._segment.file.finish()
            self._segment = None
        if self._encoding is not None:
            self._encoding.close()
            self._encoding = None

    def close(self) -> None:
        """Close the file without finishing it; may be called any number of times."""
        if self._segment is not None:
            self._segment.file.close()
            self._segment = None

    def _write_packet(self, data: bytes, record: Record) -> None:
        passing = self._passing
        if passing is None:
            passing = self._passing = Passing(self.where, self.packet_codec)
        passed = passing.take(data, record, named=name_of(record))
        if passed is None:
            self._ahead = (*self._ahead, record.seq)
            return
        track, segment = passed.track, None if self._is_of_frames else self._segment
        if track is not None and (
            segment is None
            or segment.muxer.track != track
            or segment.by_pts != passed.has_pts
            or segment.is_over(passed.pts, self.cutting)
        ):
            segment = self._begin_packets(record, track, passed, reorders=passing.reorders)
        elif segment is None and self.track is not None and self.track.codec == passing.name and self._segment is None:
            segment = self._begin_packets(record, self.track, passed, reorders=passing.reorders)
        elif segment is None:
            raise StoreError(
                f"{self.where}: {name_of(record)} has no keyframe before it, so it could not be played; start at a "
                "keyframe",
                retryable=False,
            )
        elif track is not None and segment.is_due_at_keyframe:
            segment.flush()
        try:
            segment.add(_muxable(passed, segment, record, self._ahead))
        except (av.FFmpegError, ValueError) as error:
            raise StoreError(
                f"{self.where}: {name_of(record)} is not a packet of {segment.muxer.track.codec!r} ({error}); check "
                "its sender",
                retryable=False,
            ) from error
        self._ahead = ()

    def _begin_packets(self, record: Record, track: Track, passed: Passed, *, reorders: bool) -> Segment:
        """Begin a file of packets: at a keyframe, or where an earlier file ended between keyframes."""
        muxer = Muxer(track, suffix=self.suffix, where=self.where)
        pts = passed.pts if passed.unit == track.time_base else round(passed.pts * passed.unit / track.time_base)
        header = {"track": plain_of(track)} | ({} if passed.track is not None else {"leads_in": True})
        segment = self._begin(record, muxer, pts, by_pts=passed.has_pts, reorders=reorders, header=header)
        self.track, self._is_of_frames = track, False
        return segment

    def _write_frame(self, record: Record) -> None:
        try:
            picture, pixel_format = as_picture(record.data, record.metadata.get("pixel_format"))
        except ValueError as error:
            raise StoreError(f"{self.where}: {name_of(record)} {error}", retryable=False) from error
        width, height = size_of(picture, pixel_format)
        key = (width, height, pixel_format)
        pts = record.time_ns // 1000
        encoding, segment = self._encoding, self._segment if self._is_of_frames else None
        is_over = segment is None or self._key != key or segment.is_over(pts, self.cutting)
        if segment is None or encoding is None or is_over:
            encoding = Encoding(self.encoder, width=width, height=height, pixel_format=pixel_format, where=self.where)
            try:
                if segment is None or is_over or segment.muxer.track != encoding.track:
                    muxer = Muxer(encoding.track, suffix=self.suffix, where=self.where)
                    segment = self._begin(record, muxer, pts, by_pts=False, reorders=encoding.reorders, header={})
                    self.track = None
                else:
                    self._drain()
            except BaseException:
                encoding.close()
                raise
            self._encoding, self._is_of_frames, self._key = encoding, True, key
        try:
            packets = encoding.encode(
                picture, seq=record.seq, time_ns=record.time_ns, pts=pts, discontinuity=record.discontinuity
            )
            self._add(segment, packets)
        except (av.FFmpegError, ValueError) as error:
            raise StoreError(f"{self.where}: {name_of(record)} cannot be encoded: {error}", retryable=False) from error

    def _begin(
        self, record: Record, muxer: Muxer, pts: int, *, by_pts: bool, reorders: bool, header: Mapping[str, Any]
    ) -> Segment:
        """End the previous segment, and begin the next one with this record."""
        self.finish()
        path, replaces = self.naming.choose(record)
        track = muxer.track
        header = {
            "penstock": KIND,
            "channel": self.channel,
            "codec": track.codec,
            "width": track.width,
            "height": track.height,
            "segment": self.naming.next_segment,
            "begin_ns": record.time_ns,
            **header,
        }
        file = SegmentFile.begin(path, muxer.head, header, replace=replaces)
        self.naming.begun()
        clock = Clock(track.time_base, reorders)
        self._segment = Segment(file, muxer, clock, pts, record.time_ns, by_pts)
        return self._segment

    def _drain(self) -> None:
        """Write the encoder's buffered frames, if there are any; the next frame then needs a new encoder."""
        encoding, segment = self._encoding, self._segment
        if encoding is None or segment is None or not encoding.holds:
            return
        self._encoding = None
        self._add(segment, encoding.drain())

    def _add(self, segment: Segment, packets: list[Muxable]) -> None:
        for packet in packets:
            if packet.is_keyframe and segment.is_due_at_keyframe:
                try:
                    segment.flush()
                except OSError:  # the frame was accepted: the next call reports the error
                    self._is_stuck = True
            segment.add(packet)

    def _flush(self) -> None:
        if self._segment is not None:
            self._segment.flush()
        self._is_stuck = False


def _muxable(passed: Passed, segment: Segment, record: Record, ahead: tuple[int, ...]) -> Muxable:
    """Return a packet in the time unit of a segment, which may differ from the packet's."""
    pts, dts, duration, unit = passed.pts, passed.dts, passed.duration, segment.clock.unit
    if segment.by_pts != passed.has_pts:
        pts, dts, duration = segment.pts_at(record.time_ns), None, 0
    elif passed.unit != unit:
        ratio = passed.unit / unit
        pts, dts, duration = round(pts * ratio), None if dts is None else round(dts * ratio), round(duration * ratio)
    return Muxable(
        data=passed.data,
        pts=pts,
        dts=dts,
        duration=duration,
        is_keyframe=passed.track is not None,
        seq=record.seq,
        time_ns=record.time_ns,
        discontinuity=record.discontinuity,
        ahead=ahead,
    )
