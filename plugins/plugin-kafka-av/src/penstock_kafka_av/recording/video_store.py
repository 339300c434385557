"""VideoStore: writes the records of each channel as video files."""

from __future__ import annotations

import heapq
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import ConfigError, StoreError
from penstock.record import Record
from penstock.short_text import short
from penstock.templates import Template, is_template
from penstock.validators import at_least, finite_seconds, library_options, one_of, or_none
from penstock_kafka_av.recording.encoding import Encoder
from penstock_kafka_av.recording.failures import one_error
from penstock_kafka_av.recording.journal import SUFFIX, Journal, is_part, read_journal, video_of
from penstock_kafka_av.recording.known import Runs
from penstock_kafka_av.recording.muxing import FORMATS, Track, track_of
from penstock_kafka_av.recording.naming import Naming, WhenExists, name_of, names_of, open_template
from penstock_kafka_av.recording.recording import Recording
from penstock_kafka_av.recording.segment import Cutting
from penstock_kafka_av.recording.segment_file import recover

_log = logging.getLogger("penstock")
_MOST_OPEN = 256
_NEWEST = 1000


def _rate(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.001 <= value <= 100_000:
        raise ConfigError(f"{field.name}={short(value)}: must be a number of frames per second, from 0.001 to 100000")


def _positive_or_auto(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    if value != "auto" and (type(value) is not int or value < 1):
        raise ConfigError(f"{field.name}={short(value)}: must be 'auto' or a number of threads, 1 or more")


@attrs.define(eq=False)
class _Open:
    """The state of an open store."""

    template: Template
    encoder: Encoder
    known: dict[str, Runs] = attrs.field(factory=dict)
    segments: dict[str, int] = attrs.field(factory=dict)  # the next number of each channel
    tracks: dict[str, Track | None] = attrs.field(
        factory=dict
    )  # of the last packets of channels without an open recording
    recordings: dict[str, Recording] = attrs.field(factory=dict)  # the most recently written last


@checks_arguments
@attrs.define(kw_only=True)
class VideoStore:
    """Write the frames of each channel as a video, or its packets unchanged, without transcoding.

    Arrays are encoded: uint8 (height, width, 3) in BGR order or in the order of `metadata["pixel_format"]`, uint8 and
    uint16 (height, width), and pictures of a decoder with `pixel_format="lazy"`. Bytes are packets, such as those of
    the sources `video` and `kafka`: they are written unchanged, from the first keyframe on, with the codec parameters
    from their metadata. If an earlier file of the channel ended between keyframes, the next one continues there: its
    first frames can be decoded only after those of the earlier file. Times are kept: pts, dts and duration from the
    packets' metadata, else `time_ns` to the microsecond (MP4) or millisecond (Matroska); each file begins at 0. A frame
    whose time does not increase is placed directly after the previous one.

    A file is written as `….part.mp4`, which can be played, and renamed when it is complete and durable. The next file
    begins when the segment has reached its limit, at a change of size, pixel format or codec, between packets and
    frames, and where time jumps back or ahead by more than half an hour; with packets, only at a keyframe. The journal
    beside it, `….mp4.jsonl`, lists its records with gaps and discontinuities: see
    `penstock_kafka_av.recording.journal`.

    Durability: after `sync`, all records written are in the file, and survive `kill -9` and a power failure. A kill
    loses at most the records since the last `sync`: those in the encoder and the last fragment, up to 4 MB or 5 s per
    channel. The remaining part can be played, and the next store that opens the same root renames it to its final name.
    With default settings, the encoders for H.264, HEVC, VP8, VP9 and AV1 buffer no frames; with others (B-frames,
    look-ahead) each `sync` ends a GOP, which increases the size.

    Records that repeat after a restart are recognized by their numbers, in the 1,000 newest files whose names `path`
    can render; files of other stores in the same directory do not count.

    Attributes:
        path: Template of the files' paths, ending in ".mp4" or ".mkv": "{{ channel }}/{{ '%05d' % segment }}.mp4".
            It is rendered for the first record of each segment; `segment` numbers the segments of a channel. If it
            renders the same name again, a number is appended: "front-1.mp4".
        root: Directory that contains all files; None uses the part of `path` before its first variable.
        segment_s: Seconds after which the next file begins; None writes a single file.
        segment_bytes: Bytes after which the next file begins; with packets, a file continues to the next keyframe.
        when_exists: Reaction to a segment name that is taken by a file of another run, and to a record that is in a
            video already: "error" raises RecordExistsError; "skip" drops the existing records, and writes the others
            under the next free name, "front-1.mp4"; "number" writes all under the next free name; "replace" writes
            all, and overwrites the file when the new one is complete.
        codec: libav's name of the encoder for frames: "libx264", "libx265", "mjpeg", "ffv1", "libvpx-vp9".
        rate: Nominal frames per second, from which the encoder derives bitrate and keyframes; times are the records'.
        bitrate: Bits per second; None leaves quality to `crf`, or to the encoder.
        crf: Quality on the encoder's scale, lower is better (0 to 51 for H.264); None uses the encoder's default.
        pixel_format: libav's name of the encoded pixel format. "yuv420p" needs even sizes, "yuv444p" accepts any.
        gop: Maximum number of frames from one keyframe to the next; None uses the frames of two seconds.
        threads: Encoder threads per channel; "auto" shares the processors with the decoders of this process.
        options: Further options of the encoder: {"preset": "slow", "bf": "2"}.
        packet_codec: The codec of packets without `codec` in their metadata.
    """

    takes: ClassVar[str] = "any"

    path: str = attrs.field(validator=is_template)
    root: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    segment_s: float | None = attrs.field(default=None, validator=or_none(finite_seconds))
    segment_bytes: int | None = attrs.field(default=None, validator=or_none(at_least(1)))
    when_exists: WhenExists = attrs.field(default="error", validator=one_of(*get_args(WhenExists)))
    codec: str = attrs.field(default="libx264")
    rate: float = attrs.field(default=25, validator=_rate)
    bitrate: int | None = attrs.field(default=None, validator=or_none(at_least(1)))
    crf: int | None = attrs.field(default=None, validator=or_none(at_least(0)))
    pixel_format: str = attrs.field(default="yuv420p")
    gop: int | None = attrs.field(default=None, validator=or_none(at_least(1)))
    threads: int | Literal["auto"] = attrs.field(default="auto", validator=_positive_or_auto)
    options: dict[str, Any] = attrs.field(factory=dict, validator=library_options)
    packet_codec: str = attrs.field(default="h264")
    _open: _Open | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Check the encoder, and recover the unfinished videos of processes that died.

        Raises:
            ConfigError: this libav has no such encoder, pixel format or option.
            TemplateError: the template cannot be compiled.
            CannotConnectToStoreError: the root is not a writable directory, or `path` has another suffix.
        """
        template = open_template(self.path, self.root, suffixes=FORMATS, where=self._where)
        encoder = self._encoder()
        encoder.check(self._where)
        state = _Open(template, encoder)
        own = names_of(self.path, has_root=self.root is not None)
        for journal in _journals(Path(template.root), own, self._where):
            runs = state.known.setdefault(journal.segment["channel"], Runs())
            for first, last in journal.runs():
                runs.add(first, last)
            state.tracks[journal.segment["channel"]] = track_of(journal.segment.get("track"))
            number = journal.segment.get("segment")
            if type(number) is int and self.when_exists != "replace":
                channel = journal.segment["channel"]
                state.segments[channel] = max(state.segments.get(channel, 0), number + 1)
        self._open = state

    def write(self, records: Sequence[Record]) -> None:
        """Add frames or packets to their channels' files; existing ones are handled by `when_exists`.

        After an error of the disk, the channel's later records of this list fail too, so that a retry keeps the order.

        Raises:
            RecordExistsError: all failed records are in a video already.
            StoreError: it lists the records that were not written; others are. Not retryable for records that cannot
                be encoded or have no keyframe before them, retryable for errors of the disk.
        """
        state = self._opened()
        failed: list[tuple[Record, BaseException]] = []
        touched: dict[str, Recording] = {}
        waiting: dict[str, StoreError] = {}  # channels to be retried, in order
        for record in records:
            channel = record.channel
            recording = touched.get(channel)
            if recording is None:
                recording = touched[channel] = self._recording(state, channel)
            if channel in waiting:
                failed.append((record, waiting[channel]))
                continue
            try:
                recording.write(record)
                if record.metadata.get("channel_ends") is True:
                    recording.finish()
            except StoreError as error:
                failed.append((record, error))
            except OSError as error:
                waiting[channel] = self._retryable(f"{name_of(record)} cannot be written", error)
                failed.append((record, waiting[channel]))
        for recording in touched.values():
            recording.flush_if_due()
        if failed:
            raise one_error(failed, len(records), where=self._where)

    def sync(self) -> None:
        """Make everything written durable. Raises StoreError, retryable unless a file was removed."""
        self._each(Recording.sync)

    def close(self) -> None:
        """Finish all files. Raises StoreError for a file that cannot be finished; it stays as `….part.mp4`."""
        state = self._open
        if state is None:
            return
        try:
            self._each(Recording.finish)
        finally:
            for recording in state.recordings.values():
                recording.close()
            self._open = None

    @property
    def _where(self) -> str:
        return f"VideoStore {self.path!r}"

    def _opened(self) -> _Open:
        if self._open is None:
            raise StoreError(f"{self._where}: is not open; call open() first", retryable=False)
        return self._open

    def _encoder(self) -> Encoder:
        rate = Fraction(self.rate).limit_denominator(1001)
        return Encoder(
            codec=self.codec,
            rate=rate,
            bitrate=self.bitrate,
            crf=self.crf,
            pixel_format=self.pixel_format,
            gop=self.gop or max(1, round(2 * rate)),
            threads=0 if self.threads == "auto" else self.threads,
            options={name: str(value) for name, value in self.options.items()},
        )

    def _recording(self, state: _Open, channel: str) -> Recording:
        recording = state.recordings.pop(channel, None)
        if recording is None:
            if len(state.recordings) >= _MOST_OPEN:
                self._finish_oldest(state)
            naming = Naming(self._where, state.template, self.when_exists, state.segments.get(channel, 0))
            recording = Recording(
                where=self._where,
                channel=channel,
                suffix=Path(self.path).suffix,
                cutting=Cutting(self.segment_s, self.segment_bytes),
                encoder=state.encoder,
                packet_codec=self.packet_codec,
                naming=naming,
                known=state.known.setdefault(channel, Runs()),
                track=state.tracks.pop(channel, None),
            )
        state.recordings[channel] = recording
        return recording

    def _finish_oldest(self, state: _Open) -> None:
        """Finish the least recently written file; if that fails, it stays open."""
        channel = next(iter(state.recordings))
        recording = state.recordings[channel]
        try:
            recording.finish()
        except OSError as error:
            _log.warning("%s: the video of channel %r cannot be finished: %s", self._where, channel, error)
            return
        state.segments[channel] = recording.naming.next_segment
        state.tracks[channel] = recording.track
        del state.recordings[channel]

    def _each(self, do: Callable[[Recording], None]) -> None:
        """Call `do` for all channels, and raise one error for all failures."""
        failed: list[tuple[Recording, OSError]] = []
        for recording in self._opened().recordings.values():
            try:
                do(recording)
            except OSError as error:
                failed.append((recording, error))
        if failed:
            recording, first = failed[0]
            more = f"; and {len(failed) - 1} more channels" if len(failed) > 1 else ""
            what = f"the video of channel {recording.channel!r} cannot be made durable{more}"
            raise self._retryable(what, first) from first

    def _retryable(self, what: str, error: OSError) -> StoreError:
        if isinstance(error, StoreError):
            return error
        is_gone = isinstance(error, FileNotFoundError)
        remedy = "do not remove files while the store is open" if is_gone else "free disk space, or check the disk"
        own = StoreError(f"{self._where}: {what}: {error}; {remedy}", retryable=not is_gone)
        own.__cause__ = error
        return own


def _journals(root: Path, own: re.Pattern[str], where: str) -> Iterator[Journal]:
    """Recover unfinished videos below a root, and yield the newest journals of these names, the oldest first."""
    found: list[tuple[int, Path]] = []
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if not name.endswith(SUFFIX) or video_of(path).suffix not in FORMATS:
                continue
            try:
                if is_part(video_of(path)):
                    whole = recover(path)
                    if whole is None:
                        continue
                    _log.warning("%s: recovered %s, which a process that died had left unfinished", where, whole)
                    path = whole.with_name(whole.name + SUFFIX)
                if own.search(video_of(path).as_posix()):
                    found.append((path.stat().st_mtime_ns, path))
            except OSError as error:
                _log.warning("%s: %s cannot be recovered: %s", where, path, error)
    for _, path in sorted(heapq.nlargest(_NEWEST, found)):
        try:
            journal = read_journal(path.read_bytes())
        except OSError:
            continue
        if journal is not None:
            yield journal
