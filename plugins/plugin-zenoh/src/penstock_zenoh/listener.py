"""One source that listens to a store: the room it offers, what it has not taken, and what became of that."""

from __future__ import annotations

import time
from collections import deque

import attrs

from penstock_zenoh import wire
from penstock_zenoh.wire import Mark, Receipt, SourceCard

_STUCK_S = 1.0


@attrs.define(eq=False)
class Sent:
    """The records of one message: the number of the last one, their count, and their bytes."""

    last: int
    count: int
    size_bytes: int


@attrs.define(eq=False)
class Listener:
    """One source: what it subscribes to, the room it offers, and how far its receipts are.

    Attributes:
        id: Its id on the wire.
        card: What it subscribes to, and how many records and bytes it lets wait.
        sent: Each message sent to it that it has not wholly taken.
        sent_count: The records of these; `sent_bytes` their bytes.
        keys: For each key, the running number of the first record sent to it, and of the next one.
        last: Number of the last record sent to it.
        receipt: Its newest receipt.
        lost_seen: How many of its lost records have been reported.
        present: False while its token is gone: it died, or a link is broken.
        gone_at: Since when, on the monotonic clock.
        is_given_up: It stayed away for too long.
        is_told: That has been reported.
        is_behind: It has come back, and what it had not received is to be sent again.
        owed: It had been given up: what was sent before, by key, which it is to count as lost as far as it misses it.
    """

    id: str
    card: SourceCard
    sent: deque[Sent] = attrs.field(factory=deque)
    sent_count: int = 0
    sent_bytes: int = 0
    keys: dict[str, tuple[int, int]] = attrs.field(factory=dict)
    last: int = 0
    receipt: Receipt = attrs.field(factory=lambda: Receipt("", 0, 0, 0, 0))
    lost_seen: int = 0
    present: bool = True
    gone_at: float = 0.0
    is_given_up: bool = False
    is_told: bool = False
    is_behind: bool = False
    owed: dict[str, tuple[int, int]] | None = None
    _seen: tuple[int, float] = (-1, 0.0)

    def room(self) -> int:
        """Return how many records it can be sent; one that waits for nothing takes a record of any size."""
        return self.card.capacity - self.sent_count if self.sent_bytes < self.card.capacity_bytes else 0

    def book(self, key: str, number: int, key_number: int, count: int, size_bytes: int) -> None:
        """Take note of a message that will be sent to it: its first numbers, how many records, how many bytes."""
        self.last = number + count - 1
        self.sent.append(Sent(self.last, count, size_bytes))
        self.sent_count += count
        self.sent_bytes += size_bytes
        known = self.keys.get(key)
        if known is None:
            wire.remember(self.keys, key, (key_number, key_number + count))
        else:
            self.keys[key] = (known[0], key_number + count)

    def take(self, receipt: Receipt) -> None:
        """Note a receipt."""
        self.receipt = receipt
        while self.sent and self.sent[0].last <= receipt.taken:
            gone = self.sent.popleft()
            self.sent_count -= gone.count
            self.sent_bytes -= gone.size_bytes

    def untaken(self) -> int:
        """Return how many records it has not taken, as far as it has said."""
        if not self.sent:
            return 0
        first = self.sent[0]
        return self.sent_count - max(0, self.receipt.taken - (first.last - first.count))

    def mark(self, number: int, *, is_end: bool, is_final: bool) -> Mark:
        """Return a mark for it; one that had been given up is told what will not come any more."""
        if is_final:
            return Mark(number, self.last, is_end, dict(self.keys), True)
        if self.owed is not None:
            return Mark(number, self.last, False, self.owed, True)
        return Mark(number, self.last, is_end)

    def return_as(self, card: SourceCard) -> Listener:
        """Return what it is when it comes back after it was given up: nothing is kept for it, it counts its losses."""
        back = Listener(self.id, card, receipt=self.receipt, lost_seen=self.lost_seen, keys=self.keys, last=self.last)
        back.owed = dict(self.keys)
        return back

    def is_stuck(self) -> bool:
        """Return whether it has received nothing new for `_STUCK_S` since it was first asked; then ask it again."""
        now = time.monotonic()
        received, since = self._seen
        if received != self.receipt.received:
            self._seen = (self.receipt.received, now)
            return False
        if now < since + _STUCK_S:
            return False
        self._seen = (received, now)
        return True

    def is_open(self, mark: int) -> bool:
        """Return whether it owes a receipt: for what it has not taken, or for this mark, by which it was to count."""
        return bool(self.sent) or (self.owed is not None and self.receipt.mark < mark)

    def describe(self) -> str:
        """Return what messages call it."""
        return f"the source {self.card.key!r} ({self.card.process})"
