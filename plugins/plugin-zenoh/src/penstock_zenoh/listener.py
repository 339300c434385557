"""A source that listens to a store: its capacity, its untaken records, and its receipts."""

from __future__ import annotations

import time
from collections import deque

import attrs

from penstock_zenoh import wire
from penstock_zenoh.wire import Mark, Receipt, SourceCard

_STUCK_S = 1.0


@attrs.define(eq=False)
class Sent:
    """The records of one message: the running number of the last one, their count, and their bytes."""

    last: int
    count: int
    size_bytes: int


@attrs.define(eq=False)
class Listener:
    """A source: its subscription, its capacity, and the state of its receipts.

    Attributes:
        id: Its id in the protocol.
        card: Its key expression, and its capacity in records and bytes.
        sent: Messages sent to it that it has not taken completely.
        sent_count: The number of records in `sent`; `sent_bytes` is the number of bytes.
        keys: For each key, the running numbers of the first record sent to it and of the next one.
        last: Running number of the last record sent to it.
        receipt: Its newest receipt.
        lost_seen: Number of its lost records that have been reported.
        present: False while its token is missing: it died, or a link is broken.
        gone_at: Monotonic time at which the token disappeared.
        is_given_up: It was disconnected for too long.
        is_reported: Giving it up has been reported.
        is_behind: It has reconnected, and its unreceived messages must be sent again.
        asked: Number of the last mark that asked it for a receipt while its capacity was used up; 0 for none.
        owed: `keys` when it was given up, and `owed_last` the last number; after reconnecting it counts the missing
            ones of these records as lost.
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
    is_reported: bool = False
    is_behind: bool = False
    asked: int = 0
    owed: dict[str, tuple[int, int]] | None = None
    owed_last: int = 0
    _seen: tuple[int, float] = (-1, 0.0)

    def room(self) -> int:
        """Return how many records it can accept; one without untaken records accepts a record of any size."""
        return self.card.capacity - self.sent_count if self.sent_bytes < self.card.capacity_bytes else 0

    def book(self, key: str, number: int, key_number: int, count: int, size_bytes: int) -> None:
        """Book a message to be sent to it; `number` and `key_number` are running numbers of its first record."""
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
        """Process a receipt."""
        self.receipt = receipt
        while self.sent and self.sent[0].last <= receipt.taken:
            gone = self.sent.popleft()
            self.sent_count -= gone.count
            self.sent_bytes -= gone.size_bytes

    def untaken(self) -> int:
        """Return how many records it has not confirmed as taken."""
        if not self.sent:
            return 0
        first = self.sent[0]
        return self.sent_count - max(0, self.receipt.taken - (first.last - first.count))

    def mark(self, number: int, *, is_end: bool, is_final: bool) -> Mark:
        """Return a mark for it; if it had been given up, the mark lists the records that will not arrive."""
        if is_final:
            return Mark(number, self.last, is_end, dict(self.keys), True)
        if self.owed is not None:
            return Mark(number, self.owed_last, False, self.owed, True)
        return Mark(number, self.last, is_end)

    def return_as(self, card: SourceCard) -> Listener:
        """Return its state when it reconnects after it was given up: no messages are kept, it counts its losses."""
        back = Listener(self.id, card, receipt=self.receipt, lost_seen=self.lost_seen, keys=self.keys, last=self.last)
        back.owed, back.owed_last, back.is_behind = dict(self.keys), self.last, True
        return back

    def is_stuck(self) -> bool:
        """Return whether it received nothing new for `_STUCK_S` since it was asked, and must be asked again."""
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
        """Return whether a receipt is outstanding: for untaken records, or for this mark, which asks for the losses."""
        return bool(self.sent) or (self.owed is not None and self.receipt.mark < mark)

    def describe(self) -> str:
        """Return its name for messages."""
        return f"the source {self.card.key!r} ({self.card.process})"
