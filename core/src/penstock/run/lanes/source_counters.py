"""SourceCounters: the counters that a source reports itself, summed over all its openings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from penstock.source import (
    SupportsDrop,
    SupportsLag,
    SupportsLagSeconds,
    SupportsLoss,
    SupportsNotes,
    SupportsRejected,
    SupportsRemark,
)

T = TypeVar("T")
_NONE: Counter[str] = Counter()


class SourceCounters:
    """Ask a source for its lost, dropped and rejected records and its lag. Any thread.

    A source counts from each `open` on; the sums here go on.

    Any error of a source is passed to `failed`, and must not prevent a report.
    """

    def __init__(self, failed: Callable[[str, BaseException], None]) -> None:
        self._failed = failed
        self._source: Any = None
        self._lost: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._rejected = 0

    def opened(self, source: Any) -> None:
        """Ask this source from now on; it has just been opened."""
        self._source = source

    def closing(self) -> None:
        """Add up the counters of the source, and ask it no more: it is about to close. May be called more than once."""
        self._lost, self._dropped, self._rejected = self.lost_upstream(), self.dropped_upstream(), self.rejected()
        self._source = None

    def lost_upstream(self) -> Counter[str]:
        """Return how many records were found missing on arrival, by channel."""
        return self._lost + self._ask(SupportsLoss, "lost_upstream", _counts, _NONE)

    def dropped_upstream(self) -> Counter[str]:
        """Return how many records the source dropped, as configured, by channel."""
        return self._dropped + self._ask(SupportsDrop, "dropped_upstream", _counts, _NONE)

    def rejected(self) -> int:
        """Return how many messages were not valid records."""
        return self._rejected + self._ask(SupportsRejected, "rejected", int, 0)

    def lag(self) -> int | None:
        """Return how many records wait at the sender, or None if the source cannot tell."""
        return self._ask(SupportsLag, "lag", int, None)

    def lag_s(self) -> float | None:
        """Return by how many seconds the source is behind, or None if it cannot tell."""
        return self._ask(SupportsLagSeconds, "lag_s", float, None)

    def remark(self) -> str:
        """Return the remark of the source for its users, or ""."""
        return self._ask(SupportsRemark, "remark", str, "")

    def notes(self) -> tuple[str, ...]:
        """Return what the source tells of what it read."""
        return self._ask(SupportsNotes, "notes", _sentences, ())

    def _ask(self, ability: type, method: str, kind: Callable[[Any], T], otherwise: T) -> T:
        source = self._source
        if source is None or not isinstance(source, ability):
            return otherwise
        try:
            return kind(getattr(source, method)())
        except BaseException as error:  # see above
            self._failed(method, error)
            return otherwise


def _sentences(given: Any) -> tuple[str, ...]:
    """Return a source's notes as texts."""
    return tuple(map(str, given))


def _counts(given: Any) -> Counter[str]:
    """Return a source's counts by channel as a Counter of plain values."""
    return Counter({str(channel): int(count) for channel, count in dict(given).items()})
