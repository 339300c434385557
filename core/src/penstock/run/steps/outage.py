"""Outage: tell a store that is down from records that are bad, and how often it is tried meanwhile."""

from __future__ import annotations

import time
from typing import Final

import attrs

from penstock.error_text import text_of
from penstock.errors import StoreError

RECORDS_IN_A_ROW: Final = 2
"""So many records that fail for good one behind the other are hardly at fault themselves."""
FAST_S: Final = 0.05
"""A call that fails within this time costs so little that every record is tried, once."""
FIRST_INTERVAL_S: Final = 0.5
TIMES_LONGER: Final = 10
"""How much longer than a call the interval behind it is at least, so that the calls take a tenth of the time."""


@attrs.define(eq=False)
class Outage:
    """Whether a store is down. Then no call is made again for one record's sake, and slow calls only from time to time.

    A call that fails fast is made once for each record, so that a good one among bad ones is never given up untried;
    behind a slow one, nothing is tried until an interval is over, which doubles up to `longest_s` seconds or ten
    times what a call takes.
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
        """Note that records failed for good, in a call that took so long."""
        now = time.monotonic()
        if self.last is None:
            self.began = now
        self.failed += records
        self.last = error
        if took_s > FAST_S:
            self._try_at = now + max(self._interval_s, TIMES_LONGER * took_s)
            self._interval_s = min(2 * self._interval_s, self.longest_s)

    def end(self) -> None:
        """Note that the store has written something."""
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
