"""LeftOut: counts packets skipped before a keyframe, and logs them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import attrs

from penstock.record import Record

_logger = logging.getLogger(__name__)


@attrs.define
class LeftOut:
    """Count the packets that cannot be decoded without a keyframe, and log each series of them once."""

    _first: Record | None = None
    _count: int = 0

    def note(self, record: Record) -> None:
        """Count one more packet."""
        self._first = self._first or record
        self._count += 1

    def give_up(self, others: Sequence[Record]) -> int:
        """Log the skipped packets, and others that are skipped too since no keyframe follows; return their number."""
        for record in others:
            self.note(record)
        self.end(None)
        return len(others)

    def end(self, keyframe: Record | None) -> None:
        """Log the skipped packets, if there were any; `keyframe` is None if none arrived."""
        if self._first is not None:
            _logger.warning(
                "av decoder: %d packets of channel %r, from packet %d on, were skipped: %s",
                self._count,
                self._first.channel,
                self._first.seq,
                "no keyframe arrived" if keyframe is None else f"the next keyframe is packet {keyframe.seq}",
            )
        self._first, self._count = None, 0
