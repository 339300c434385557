"""ContinuedNumbers: continues the seq of a camera that was reopened and counts from 0 again."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from penstock.compose.resolve import ResolvedNode
from penstock.fields import SeveralChannels, channels_of
from penstock.identity import COUNTED
from penstock.record import Record

_log = logging.getLogger("penstock.run")


class ContinuedNumbers:
    """Remember the last seq of each channel, and shift those that begin again. Used by the lane of the source.

    Only for a source that cannot be read again: from any other, the same numbers mean the same records.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._shift: dict[str, int] = {}
        self._unsure: set[str] = set()

    def opened_again(self) -> None:
        """Check the next record of each channel: it may be numbered from 0 again."""
        self._unsure = set(self._last)

    def take(self, records: Sequence[Record], resolved: ResolvedNode) -> Sequence[Record]:
        """Return the records of a source, with continued numbers; `resolved` is its node."""
        if self._unsure or self._shift:
            records = [self._continued(record, resolved.where) for record in records]
        if type(records) is SeveralChannels:
            self._last.update(records.lasts)
        elif len(channels_of(records)) == 1:
            self._last[records[-1].channel] = records[-1].seq
        else:
            self._last.update({record.channel: record.seq for record in records})
        return records

    def _continued(self, record: Record, where: str) -> Record:
        channel = record.channel
        if channel in self._unsure:
            self._unsure.discard(channel)
            self._shift.pop(channel, None)
            last = self._last[channel]
            if record.seq <= last < COUNTED:
                self._shift[channel] = last + 1 - record.seq
                _log.warning(
                    "%s: channel %r begins again at %d and is continued as %d", where, channel, record.seq, last + 1
                )
        shift = self._shift.get(channel)
        return record.replace(seq=record.seq + shift) if shift else record
