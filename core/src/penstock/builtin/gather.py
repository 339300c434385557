"""Batch and Align: several records become one, by number and time, or by their time."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import attrs

from penstock.errors import ConfigError
from penstock.identity import gathered_number, moment_number
from penstock.record import Record
from penstock.record_size import size_of
from penstock.validators import at_least, one_of, or_none, seconds

_log = logging.getLogger(__name__)


@attrs.define(kw_only=True)
class Batch:
    """Join records into lists of `size`, over all channels or per channel.

    The resulting record has as data a list of the data (or one stacked array), the channel of its records or, if
    they are of several, "batch", the time of the first, and in its metadata `channels`, `seqs` and `times_ns` of all.
    Its `seq` is computed from theirs: the same records have the same number in every run, and others a different one.
    Records left at the end are emitted as a smaller batch; a checkpoint waits for kept records, so that a crash loses
    none.

    Attributes:
        size: The number of records in a batch.
        timeout_s: Seconds after its first record after which an incomplete batch is emitted; None waits for ever.
        by_channel: Whether each channel has batches of its own.
        stack: Whether the arrays are stacked along a new first axis, (size, ...); they must have one shape and dtype.
    """

    own_identity: ClassVar[bool] = True

    size: int = attrs.field(validator=at_least(1))
    timeout_s: float | None = attrs.field(default=None, validator=or_none(seconds))
    by_channel: bool = False
    stack: bool = False
    _kept: dict[str, list[Record]] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _since: dict[str, float] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _clock: Callable[[], float] = attrs.field(default=time.monotonic, init=False, repr=False, eq=False)

    def __call__(self, record: Record) -> Record | None:
        """Keep a record; return the batch that it fills. Raises ValueError for an array that cannot be stacked."""
        channel = record.channel if self.by_channel else "batch"
        kept = self._kept.setdefault(channel, [])
        if kept and self.stack and _form(record) != _form(kept[0]):
            raise ValueError(
                f"{_form(record)} cannot be stacked on {_form(kept[0])}: omit `stack`, or batch by channel"
            )
        if not kept:
            self._since[channel] = self._clock()
        kept.append(record)
        return self._leave(channel) if len(kept) >= self.size else None

    def _leave(self, channel: str) -> Record:
        records = self._kept.pop(channel)
        del self._since[channel]
        data: Any = [record.data for record in records]
        if self.stack:
            import numpy as np

            data = np.stack(data)
        first = records[0].channel
        return Record(
            data,
            channel=first if all(record.channel == first for record in records) else "batch",
            seq=gathered_number(records),
            time_ns=records[0].time_ns,
            metadata={
                "channels": [record.channel for record in records],
                "seqs": [record.seq for record in records],
                "times_ns": [record.time_ns for record in records],
            },
        )

    def held(self) -> Iterable[Record]:
        """Return the buffered records."""
        return [record for records in self._kept.values() for record in records]

    def flush(self) -> Iterable[Record]:
        """Return the buffered records as incomplete batches."""
        return [self._leave(channel) for channel in list(self._kept)]

    def wait_s(self) -> float | None:
        """Return the seconds until the oldest batch is due."""
        if self.timeout_s is None or not self._since:
            return None
        return min(self._since.values()) + self.timeout_s - self._clock()

    def expire(self) -> Iterable[Record]:
        """Return the batches whose timeout has passed."""
        now = self._clock()
        due = [channel for channel, since in self._since.items() if now - since >= (self.timeout_s or 0)]
        return [self._leave(channel) for channel in due]


def _form(record: Record) -> tuple[Any, Any]:
    """Return the shape and dtype of an array, which must match."""
    return getattr(record.data, "shape", ()), getattr(record.data, "dtype", type(record.data))


@attrs.define(kw_only=True)
class Align:
    """Return one record for each moment, with the data of each channel at that time.

    The earliest waiting record of any channel sets the moment; a channel takes part with its next record if that is
    within the tolerance. The resulting record has as data a dict of channel to data, the channel "aligned", the
    time of the earliest, as `seq` that of all its records, or one computed from theirs, and in its metadata `skew_s`
    (seconds between its earliest and latest), `seqs`, `times_ns` and `missing`.

    Attributes:
        channels: The channels to align; records of others are discarded.
        tolerance_s: The most seconds between the records of one moment, by their `time_ns`.
        deadline_s: Seconds to wait for a channel that has nothing yet, counted from the arrival of the moment's record.
        missing: The action for a moment without a record of a channel, once its next record is later than the
            tolerance or the deadline is over: "skip" the moment, or emit it with "none" for the channel. With "wait"
            there is no deadline, and a moment that a channel is known to have missed is skipped.
        max_bytes: Bytes of data that may wait for other channels. When more wait, the earliest moment is decided as if
            its deadline were over; "wait" skips it. The first one is reported in the log, `overfull` counts them. None
            sets no limit.
    """

    own_identity: ClassVar[bool] = True

    channels: tuple[str, ...] = attrs.field(converter=tuple)
    tolerance_s: float = attrs.field(validator=seconds)
    deadline_s: float | None = attrs.field(default=None, validator=or_none(seconds))
    missing: Literal["wait", "skip", "none"] = attrs.field(default="wait", validator=one_of("wait", "skip", "none"))
    max_bytes: int | None = attrs.field(default=2 << 30, validator=or_none(at_least(1)))
    discarded: Counter[str] = attrs.field(factory=Counter, init=False, repr=False, eq=False)
    overfull: int = attrs.field(default=0, init=False, eq=False)
    _bytes: int = attrs.field(default=0, init=False, repr=False, eq=False)
    _waiting: dict[str, deque[tuple[float, Record, int]]] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _clock: Callable[[], float] = attrs.field(default=time.monotonic, init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if len(set(self.channels)) < 2:
            raise ConfigError(f"channels={list(self.channels)!r}: name at least two different channels")
        if self.missing != "wait" and self.deadline_s is None:
            raise ConfigError(f"deadline_s=None: missing={self.missing!r} set the seconds to wait for a channel")
        self._waiting = {channel: deque() for channel in self.channels}

    def __call__(self, record: Record) -> list[Record] | None:
        """Keep a record; return the moments that it completes."""
        if record.channel not in self._waiting:
            return None
        size = size_of(record.data)
        self._waiting[record.channel].append((self._clock(), record, size))
        self._bytes += size
        return self._moments(final=False)

    def _moments(self, *, final: bool) -> list[Record]:
        given: list[Record] = []
        while any(self._waiting.values()):
            start, arrived = min((queue[0][1].time_ns, queue[0][0]) for queue in self._waiting.values() if queue)
            limit = start + round(self.tolerance_s * 1e9)
            taken = {name: queue for name, queue in self._waiting.items() if queue and queue[0][1].time_ns <= limit}
            unknown = [name for name, queue in self._waiting.items() if not queue]
            late = self.missing != "wait" and self._clock() - arrived >= (self.deadline_s or 0)
            is_full = self.max_bytes is not None and self._bytes > self.max_bytes
            if unknown and not late and not final and not is_full:
                break
            records = {}
            for name, queue in taken.items():
                _, records[name], size = queue.popleft()
                self._bytes -= size
            if unknown and not late and not final:
                self._note_overfull(unknown)
            if len(records) == len(self.channels) or self.missing == "none":
                given.append(self._moment(records))
            else:
                self.discarded.update(records.keys())
        return given

    @property
    def skipped(self) -> int:
        """Records of moments that were skipped."""
        return self.discarded.total()

    def _note_overfull(self, unknown: list[str]) -> None:
        """Count a moment that was decided early for the memory, and report the first."""
        self.overfull += 1
        if self.overfull == 1:
            _log.warning(
                "align: more than %s bytes wait for %s; the earliest moments no longer wait (missing=%r). Read Kafka "
                "topics with order='time', or raise max_bytes",
                self.max_bytes, ", ".join(map(repr, unknown[:5])), self.missing,
            )  # fmt: skip

    def _moment(self, records: dict[str, Record]) -> Record:
        times = {name: record.time_ns for name, record in records.items()}
        present = [records[name] for name in self.channels if name in records]
        return Record(
            {name: records[name].data if name in records else None for name in self.channels},
            channel="aligned",
            seq=moment_number(present, is_complete=len(present) == len(self.channels)),
            time_ns=min(times.values()),
            metadata={
                "skew_s": (max(times.values()) - min(times.values())) / 1e9,
                "seqs": {name: record.seq for name, record in records.items()},
                "times_ns": times,
                "missing": [name for name in self.channels if name not in records],
            },
        )

    def held(self) -> Iterable[Record]:
        """Return the records that wait for other channels."""
        return [record for queue in self._waiting.values() for _, record, _ in queue]

    def flush(self) -> Iterable[Record]:
        """Return the moments that can still be emitted; those that lack a channel follow `missing`."""
        return self._moments(final=True)

    def wait_s(self) -> float | None:
        """Return the seconds until the deadline of the earliest moment."""
        if self.missing == "wait" or self.deadline_s is None:
            return None
        firsts = [(queue[0][1].time_ns, queue[0][0]) for queue in self._waiting.values() if queue]
        return min(firsts)[1] + self.deadline_s - self._clock() if firsts else None

    def expire(self) -> Iterable[Record]:
        """Return the moments whose deadline is over."""
        return self._moments(final=False)
