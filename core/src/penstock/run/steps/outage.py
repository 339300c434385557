"""Outage: distinguish a store that is down from bad records, and limit how often it is tried meanwhile."""

from __future__ import annotations

import time
from typing import Final

import attrs

from penstock.error_text import text_of
from penstock.errors import StoreError

RECORDS_IN_A_ROW: Final = 2
"""Consecutive records that fail for good before the store is taken to be down."""
FAST_S: Final = 0.05
"""Seconds within which a failing call is cheap enough to try every record, once."""
FIRST_INTERVAL_S: Final = 0.5
TIMES_LONGER: Final = 10
"""The minimal ratio of the interval after a call to its duration, so that calls take a tenth of the time."""


@attrs.define(eq=False)
class Outage:
    """Whether a store is down. Then no call is repeated for a single record, and slow calls are made only rarely.

    If calls fail fast, one is made for each record, so that a good record among bad ones is never given up untried.
    After a slow failure, nothing is tried until an interval is over, which doubles up to `longest_s` seconds or ten
    times the duration of a call.
    """

    longest_s: float
    failed: int = 0
    began: float = 0.0
    last: BaseException | None = None
    _interval_s: float = FIRST_INTERVAL_S
    _try_at: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the store is down."""
        return self.failed >= RECORDS_IN_A_ROW

    def note(self, error: BaseException, *, records: int, took_s: float) -> None:
        """Record a failure for good of this number of records, in a call that took `took_s` seconds."""
        now = time.monotonic()
        if self.last is None:
            self.began = now
        self.failed += records
        self.last = error
        if took_s > FAST_S:
            self._try_at = now + max(self._interval_s, TIMES_LONGER * took_s)
            self._interval_s = min(2 * self._interval_s, self.longest_s)

    def end(self) -> None:
        """Record that the store has written a record."""
        self.failed, self.last, self._interval_s, self._try_at = 0, None, FIRST_INTERVAL_S, 0.0

    def may_try(self) -> bool:
        """Return whether the store is to be called now."""
        return time.monotonic() >= self._try_at

    def untried(self) -> StoreError:
        """Return the error of a record that is given up without a call."""
        error = StoreError(
            f"the store has been failing for {time.monotonic() - self.began:.1f} s, so it was not called for this "
            f"record; its last error: {text_of(self.last) if self.last is not None else 'unknown'}"
        )
        error.__cause__ = self.last
        return error
