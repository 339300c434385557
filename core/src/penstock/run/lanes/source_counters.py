"""SourceCounters: what a source says of itself beside its records, summed over all its openings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from penstock.source import SupportsDrop, SupportsLag, SupportsLoss, SupportsNotes, SupportsRejected, SupportsRemark

T = TypeVar("T")
_NONE: Counter[str] = Counter()


class SourceCounters:
    """Ask a source what it lost, left out, refused and has before it. Any thread.

    A source counts from each `open` on; here the sums go on.

    Whatever a source raises is told to `failed`, and must not keep a report from being made.
    """

    def __init__(self, failed: Callable[[str, BaseException], None]) -> None:
        self._failed = failed
        self._source: Any = None
        self._lost: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._rejected = 0

    def opened(self, source: Any) -> None:
        """Ask this source from now on, which has just been opened."""
        self._source = source

    def closing(self) -> None:
        """Keep the sums of the source, and ask it no more: it is about to count anew. More than once does nothing."""
        self._lost, self._dropped, self._rejected = self.lost_upstream(), self.dropped_upstream(), self.rejected()
        self._source = None

    def lost_upstream(self) -> Counter[str]:
        """Return how many records were missing when they came, by channel."""
        return self._lost + self._ask(SupportsLoss, "lost_upstream", _counts, _NONE)

    def dropped_upstream(self) -> Counter[str]:
        """Return how many records the source left out, as it is set to, by channel."""
        return self._dropped + self._ask(SupportsDrop, "dropped_upstream", _counts, _NONE)

    def rejected(self) -> int:
        """Return how many messages were no records."""
        return self._rejected + self._ask(SupportsRejected, "rejected", int, 0)

    def lag(self) -> int | None:
        """Return how many records wait at the sender, or None if the source cannot tell."""
        return self._ask(SupportsLag, "lag", int, None)

    def remark(self) -> str:
        """Return what a user should know of the source, or ""."""
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
    """Return a source's counts by channel as plain ones, which can be added."""
    return Counter({str(channel): int(count) for channel, count in dict(given).items()})
