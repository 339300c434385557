"""Who listens to a store: the sources there, what each has not taken yet, and their receipts."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import attrs
import zenoh

from penstock_zenoh.wire import Mark, Receipt, SourceCard, intersects, read_card, read_message

_REPEAT_S = 0.5
_OVERTAKEN_S = 0.5


@attrs.define(eq=False)
class Listener:
    """One source: what it subscribes to, the room it offers, and how far its receipts are.

    Attributes:
        id: Its id on the wire.
        card: What it subscribes to, and how many records and bytes it lets wait.
        sent: (number, bytes) of each record sent to it that it has not taken.
        sent_bytes: The bytes of these.
        last: Number of the last record sent to it.
        receipt: Its newest receipt.
        lost_seen: How many of its lost records have been reported.
        present: False once its token is gone.
    """

    id: str
    card: SourceCard
    sent: deque[tuple[int, int]] = attrs.field(factory=deque)
    sent_bytes: int = 0
    last: int = 0
    receipt: Receipt = attrs.field(factory=lambda: Receipt("", 0, 0, 0, 0))
    lost_seen: int = 0
    present: bool = True

    def has_room(self) -> bool:
        """Tell whether it can be sent another record; one that waits for nothing takes a record of any size."""
        return len(self.sent) < self.card.capacity and self.sent_bytes < self.card.capacity_bytes

    def describe(self) -> str:
        """Return what messages call it."""
        return f"the source {self.card.key!r} ({self.card.process})"


@attrs.define(eq=False)
class Audience:
    """Keep account of the sources that listen to one store. All methods may be called from any thread.

    The callbacks run in zenoh's threads; they take the lock for microseconds and never wait.
    """

    announced: str
    _changed: threading.Condition = attrs.field(factory=threading.Condition)
    _listeners: dict[str, Listener] = attrs.field(factory=dict)
    _matching: dict[str, tuple[Listener, ...]] = attrs.field(factory=dict)
    _departed: dict[str, Listener] = attrs.field(factory=dict)
    _mark: int = 0
    _closed: bool = False

    def on_token(self, sample: zenoh.Sample) -> None:
        """Take note of a source that came or went."""
        token = read_card(str(sample.key_expr), SourceCard)
        if token is None or not intersects(self.announced, token[1].key):
            return
        with self._changed:
            gone = self._listeners.pop(token[0], None)
            if sample.kind == zenoh.SampleKind.PUT:
                self._listeners[token[0]] = Listener(*token) if gone is None else gone
            elif gone is not None:
                gone.present = False
                if gone.sent:  # its last receipt may still be on the way
                    self._departed[gone.id] = gone
            self._matching.clear()
            self._changed.notify_all()

    def on_receipt(self, sample: zenoh.Sample) -> None:
        """Take note of what a source has taken."""
        receipt = read_message(sample.payload.to_bytes(), Receipt)
        with self._changed:
            if receipt is None:
                return
            listener = self._listeners.get(receipt.source) or self._departed.get(receipt.source)
            if listener is None:
                return
            listener.receipt = receipt
            while listener.sent and listener.sent[0][0] <= receipt.taken:
                listener.sent_bytes -= listener.sent.popleft()[1]
            self._changed.notify_all()

    def admit(self, key: str, number: int, size_bytes: int, *, at_least: int, timeout_s: float) -> str | None:
        """Wait until the sources that match `key` are there and have room, and book one record for each of them.

        Args:
            key: The key that will be published on.
            number: The record's running number.
            size_bytes: Its size.
            at_least: How many sources must be there.
            timeout_s: Seconds to wait for sources to come. For room it waits as long as the source is there.

        Returns:
            None, or what is wrong; nothing is booked then.
        """
        with self._changed:
            deadline = None
            while not self._closed:
                matching = self._match(key)
                if len(matching) < at_least:
                    now = time.monotonic()
                    deadline = now + timeout_s if deadline is None else deadline
                    if now >= deadline:
                        return (
                            f"{len(matching)} of {at_least} sources subscribe to {key!r} after {timeout_s:g} s: start "
                            "the source, compare its key and endpoints with these, or set wait_for_subscribers=0"
                        )
                    self._changed.wait(deadline - now)
                    continue
                for listener in matching:
                    if not listener.has_room():
                        self._changed.wait()
                        break
                else:
                    for listener in matching:
                        listener.sent.append((number, size_bytes))
                        listener.sent_bytes += size_bytes
                        listener.last = number
                    return None
            return "the store has been closed"

    def confirm(
        self, send: Callable[[Listener, Mark], None], *, totals: dict[str, int] | None, timeout_s: float
    ) -> list[str]:
        """Ask every source for a receipt of all that was sent to it, and wait for them.

        Args:
            send: Sends a mark to a source.
            totals: At the end: how many records went out on each key. None: it goes on.
            timeout_s: Seconds to wait.

        Returns:
            What has been lost since the last call, one sentence each; empty if everything has arrived.
        """
        with self._changed:
            self._mark += 1
            mark = self._mark
            asked = list(self._listeners.values())
        deadline = time.monotonic() + timeout_s
        while True:
            with self._changed:
                open_ = [each for each in asked if each.present and each.receipt.mark < mark]
            if not open_ or time.monotonic() >= deadline:
                break
            for each in open_:
                mine = {key: total for key, total in (totals or {}).items() if intersects(each.card.key, key)}
                send(each, Mark(mark, each.last, totals is not None, mine))
            with self._changed:  # a mark that met a broken connection is repeated
                until = min(deadline, time.monotonic() + _REPEAT_S)
                self._changed.wait_for(
                    lambda: all(each.receipt.mark >= mark or not each.present for each in asked),
                    max(0.0, until - time.monotonic()),
                )
        with self._changed:
            if any(each.sent for each in self._departed.values()):  # a token's end overtakes the last receipt
                self._changed.wait_for(lambda: not any(each.sent for each in self._departed.values()), _OVERTAKEN_S)
            problems = [
                f"{each.describe()} went away with {len(each.sent)} records that it had not taken"
                for each in self._departed.values()
                if each.sent
            ]
            self._departed.clear()
            for each in asked:
                lost = each.receipt.lost - each.lost_seen
                each.lost_seen = each.receipt.lost
                if not each.present:
                    continue
                if each.receipt.mark < mark:
                    problems.append(f"{each.describe()} has not confirmed within {timeout_s:g} s")
                elif lost or each.receipt.received < each.last:
                    problems.append(f"{each.describe()} misses {max(lost, 1)} or more records")
            return problems

    def unconfirmed(self) -> list[str]:
        """Return a sentence for each source that has not taken all that was sent to it."""
        with self._changed:
            return [
                f"{each.describe()} had not confirmed {len(each.sent)} records when the session failed"
                for each in (*self._listeners.values(), *self._departed.values())
                if each.sent
            ]

    def close(self) -> None:
        """Let go whoever waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _match(self, key: str) -> tuple[Listener, ...]:
        found = self._matching.get(key)
        if found is None:
            found = tuple(each for each in self._listeners.values() if intersects(each.card.key, key))
            if len(self._matching) >= 4096:
                self._matching.clear()
            self._matching[key] = found
        return found
