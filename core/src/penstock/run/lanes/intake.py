"""Intake: counts the records of a source, checks their fields, and keeps their memory valid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from penstock.buffers import IMMUTABLE, BufferWatch
from penstock.compose.resolve import ResolvedNode
from penstock.error_text import shown, text_of
from penstock.errors import BufferReusedError, RecordFieldError, SourceError
from penstock.fields import (
    ExactRecords,
    OneChannel,
    SeveralChannels,
    all_exact,
    exact,
    exact_channels,
    is_exact,
    like,
    readable,
)
from penstock.record import Record
from penstock.record_size import size_of
from penstock.report.counters import Counters, count_channels
from penstock.run.steps.error_policy import ErrorPolicy


class Intake:
    """Take over the lists that a source returns. Used by the lane of the source."""

    def __init__(self, resolved: ResolvedNode, error_policy: ErrorPolicy, counters: Counters) -> None:
        self._resolved = resolved
        self._error_policy = error_policy
        self._counters = counters
        self._watch: BufferWatch | None = None
        self._is_exact = False
        self._take_refused: Callable[[], Sequence[tuple[Record, BaseException]]] | None = None
        self._batch = 0

    def opened(self, source: Any) -> None:
        """Use this source from now on."""
        self._watch = self._watched(source)
        self._is_exact = bool(getattr(source, "exact_fields", False))
        self._take_refused = getattr(source, "take_refused", None)

    def take(self, read: Sequence[Record]) -> Sequence[Record]:
        """Return the records in a list of the run's own. Invalid records are given up one by one.

        Raises:
            SourceError: `read` is not a sequence of records.
            BufferReusedError: the source has reused the memory of records that are in flight.
        """
        records = self._listed(read)
        if self._take_refused is not None:
            self._give_up_refused(self._take_refused())
        return records if self._watch is None else self._own(records)

    def _listed(self, read: Sequence[Record]) -> Sequence[Record]:
        """Count the records of a source, all or none, and return them with valid fields, in a list of the run's own.

        A record with invalid fields is given up alone. Raises SourceError if `read` is not a sequence of records,
        or one that raises or does not have the length that it reports.
        """
        try:
            records: list[Record] = OneChannel(read)
            if len(records) != len(read):
                raise ValueError(f"its length is {len(read)}, but it yields {len(records)} records")
            if not records:
                return records
            # Even penstock's own records may have an invalid channel, which is a setting: check the first record.
            if self._is_exact or type(read) is ExactRecords:
                channels = len({record.channel for record in records}) if all_exact(records[:1]) else 0
            else:
                channels = exact_channels(records)
            if channels > 1:
                records = SeveralChannels.of(records)
            size_bytes = len(records) * size_of(records[0].data)
            if channels:
                count_channels(self._counters.received, records)
            else:
                self._counters.received.update([readable(record)[0].channel for record in records])
            self._counters.data_bytes += size_bytes
        except BaseException as error:  # a sequence of the user's may raise anything
            raise SourceError(
                f"read() returned {shown(read)}: return a sequence of records, () for none ({text_of(error)})"
            ) from error
        return records if channels else self._converted(records)

    def _own(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the records in memory that their source will not write to, as far as can be determined."""
        self._batch += 1
        watch = self._watch
        assert watch is not None
        held = [record.data if record.parent is None and not record.metadata else record for record in records]
        if IMMUTABLE.issuperset(map(type, held)):
            return records
        try:
            return like(records, [watch.kept(record, self._batch) for record in records])
        except BufferReusedError:
            self._counters.lost += len(
                records
            )  # the list has been counted, and it is unknown which records are overwritten
            raise

    def _watched(self, source: Any) -> BufferWatch | None:
        """Return the watch over the memory of the source's records, unless the source says that it stays valid."""
        if getattr(source, "stays_valid", False):
            return None
        reuses = getattr(source, "reuses_buffers", None)
        return None if reuses is False else BufferWatch(True if reuses else None, self._resolved.where)

    def _give_up_refused(self, refused: Sequence[tuple[Record, BaseException]]) -> None:
        """Give up, one by one, the records that a source in a process could not send."""
        for record, error in refused:
            self._counters.received[record.channel] += 1
            self._error_policy.give_up(record, error)

    def _converted(self, records: Sequence[Record]) -> Sequence[Record]:
        good: list[Record] = []
        for record in records:
            try:
                good.append(record if is_exact(record) else exact(record))
            except RecordFieldError as error:
                self._error_policy.give_up(record, error)
        return good
