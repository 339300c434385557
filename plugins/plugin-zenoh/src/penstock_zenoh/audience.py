"""Who listens to a store: the sources there, what each has not taken yet, and their receipts."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import attrs
import zenoh

from penstock_zenoh.wire import Mark, Receipt, SourceCard, intersects, is_dead, read_card, read_message

_REPEAT_S = 0.5
_OVERTAKEN_S = 0.5
_LOOK_S = 0.1
_REMEMBERED = 256

BEHIND = "a source has come back"
"""What `admit` returns when something must be sent again first."""


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
        present: False while its token is gone: it died, or a link is broken.
        gone_at: Since when, on the monotonic clock.
        is_given_up: It stayed away for too long.
        is_behind: It has come back, and what it had not received is to be sent again.
    """

    id: str
    card: SourceCard
    sent: deque[tuple[int, int]] = attrs.field(factory=deque)
    sent_bytes: int = 0
    last: int = 0
    receipt: Receipt = attrs.field(factory=lambda: Receipt("", 0, 0, 0, 0))
    lost_seen: int = 0
    present: bool = True
    gone_at: float = 0.0
    is_given_up: bool = False
    is_behind: bool = False

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

    Attributes:
        announced: The key expression of what is sent.
        timeout_s: How long a source that has gone may come back: a link is broken, its process may live.
        all_present: No source is away.
    """

    announced: str
    timeout_s: float = 30.0
    all_present: bool = True
    _changed: threading.Condition = attrs.field(factory=threading.Condition)
    _listeners: dict[str, Listener] = attrs.field(factory=dict)
    _matching: dict[str, tuple[Listener, ...]] = attrs.field(factory=dict)
    _departed: dict[str, Listener] = attrs.field(factory=dict)
    _has_behind: bool = False
    _given_up: dict[str, Listener] = attrs.field(factory=dict)
    _mark: int = 0
    _closed: bool = False

    def on_token(self, sample: zenoh.Sample) -> None:
        """Take note of a source that came or went."""
        token = read_card(str(sample.key_expr), SourceCard)
        if token is None or not intersects(self.announced, token[1].key):
            return
        with self._changed:
            known = self._listeners.get(token[0])
            if sample.kind != zenoh.SampleKind.PUT:
                if known is not None:
                    known.present, known.gone_at = False, time.monotonic()
                    if known.receipt.leaves:
                        self._depart(known)
            elif known is None:
                self._listeners[token[0]] = fresh = Listener(*token)
                given_up = self._given_up.pop(token[0], None)
                if given_up is not None:
                    fresh.receipt, fresh.lost_seen = given_up.receipt, given_up.lost_seen
            elif not known.present:
                known.present, known.is_behind = True, True
                self._has_behind = True
            self.all_present = all(each.present for each in self._listeners.values())
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
            if receipt.leaves and receipt.source in self._listeners and not listener.present:
                self._depart(listener)
            self._changed.notify_all()

    def behind(self) -> list[Listener]:
        """Return the sources that have come back, each once: what they have not received is to be sent again."""
        with self._changed:
            self._has_behind = False
            found = [each for each in self._listeners.values() if each.is_behind]
            for each in found:
                each.is_behind = False
            return found

    def unreceived(self, listener: Listener) -> list[int]:
        """Return the numbers of the records that this source has not received, as far as it has said."""
        with self._changed:
            return [number for number, _ in listener.sent if number > listener.receipt.received]

    def needed_from(self) -> int | None:
        """Return the number of the oldest record that somebody may need again; None: none is."""
        with self._changed:
            return min((each.sent[0][0] for each in self._listeners.values() if each.sent), default=None)

    def is_heard(self, key: str) -> bool:
        """Tell whether somebody is there who may hear of this key; foreign subscribers may always be."""
        with self._changed:
            matching = self._match(key)
            return not matching or any(each.present for each in matching)

    def _depart(self, listener: Listener) -> None:
        """Wait no more for a source that has gone."""
        self._listeners.pop(listener.id, None)
        if listener.sent:  # its last receipt may still be on the way
            self._departed[listener.id] = listener
        self._given_up[listener.id] = listener
        if len(self._given_up) > _REMEMBERED:
            del self._given_up[next(iter(self._given_up))]
        self.all_present = all(each.present for each in self._listeners.values())
        self._matching.clear()
        self._changed.notify_all()

    def _wait(self, timeout_s: float | None = None) -> None:
        """Wait for a change; meanwhile look whether a source that has gone will not come back."""
        away = [each for each in self._listeners.values() if not each.present]
        now = time.monotonic()
        for each in away:
            is_over = is_dead(each.card.process)
            if is_over or now - each.gone_at >= self.timeout_s:
                each.is_given_up = not is_over
                self._depart(each)
                return
        if away:
            timeout_s = _LOOK_S if timeout_s is None else min(timeout_s, _LOOK_S)
        self._changed.wait(timeout_s)

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
                if self._has_behind:
                    return BEHIND
                matching = self._match(key)
                if len(matching) < at_least:
                    now = time.monotonic()
                    deadline = now + timeout_s if deadline is None else deadline
                    if now >= deadline:
                        return (
                            f"{len(matching)} of {at_least} sources subscribe to {key!r} after {timeout_s:g} s: start "
                            "the source, compare its key and endpoints with these, or set wait_for_subscribers=0"
                        )
                    self._wait(deadline - now)
                    continue
                for listener in matching:
                    if not listener.has_room():
                        self._wait()
                        break
                else:
                    for listener in matching:
                        listener.sent.append((number, size_bytes))
                        listener.sent_bytes += size_bytes
                        listener.last = number
                    return None
            return "the store has been closed"

    def confirm(
        self,
        send: Callable[[Listener, Mark], None],
        *,
        totals: dict[str, int] | None,
        timeout_s: float,
        send_again: Callable[..., None] = lambda listener, *, repeat: None,
    ) -> list[str]:
        """Ask every source for a receipt of all that was sent to it, and wait for them.

        Args:
            send: Sends a mark to a source.
            totals: At the end: how many records went out on each key. None: it goes on.
            timeout_s: Seconds to wait.
            send_again: Sends again what a source has not received, if it has come back, or with `repeat`.

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
                open_ = [
                    each for each in asked if self._listeners.get(each.id) is each and not self._has_all(each, mark)
                ]
            if not open_ or time.monotonic() >= deadline:
                break
            for each in open_:
                if each.present:
                    send_again(each, repeat=each.receipt.mark >= mark)
                    mine = {key: total for key, total in (totals or {}).items() if intersects(each.card.key, key)}
                    send(each, Mark(mark, each.last, totals is not None, mine))
            with self._changed:  # a mark that met a broken connection is repeated
                until = min(deadline, time.monotonic() + _REPEAT_S)
                while time.monotonic() < until and not all(self._has_all(each, mark) for each in open_):
                    before = [each.present for each in open_]
                    self._wait(until - time.monotonic())
                    if before != [each.present for each in open_]:
                        break
                    if any(self._listeners.get(each.id) is not each for each in open_):
                        break
        with self._changed:
            if any(each.sent for each in self._departed.values()):  # a token's end overtakes the last receipt
                self._changed.wait_for(lambda: not any(each.sent for each in self._departed.values()), _OVERTAKEN_S)
            problems = [
                f"{each.describe()} stayed away for {self.timeout_s:g} s, with up to {len(each.sent)} records that it "
                "had not taken; what it misses, it counts"
                if each.is_given_up
                else f"{each.describe()} went away with {len(each.sent)} records that it had not taken"
                for each in self._departed.values()
                if each.sent
            ]
            self._departed.clear()
            for each in asked:
                if self._listeners.get(each.id) is not each:
                    continue
                lost = each.receipt.lost - each.lost_seen
                each.lost_seen = each.receipt.lost
                if each.receipt.mark < mark:
                    problems.append(f"{each.describe()} has not confirmed within {timeout_s:g} s")
                elif lost or each.receipt.received < each.last:
                    problems.append(f"{each.describe()} misses {max(lost, 1)} records")
            return problems

    def _has_all(self, listener: Listener, mark: int) -> bool:
        """Tell whether a source has answered a mark, and has all that was sent to it before, or counted it as lost."""
        receipt = listener.receipt
        return receipt.mark >= mark and (receipt.received >= listener.last or receipt.lost > listener.lost_seen)

    def unconfirmed(self) -> list[str]:
        """Return a sentence for each source that has not taken all that was sent to it."""
        with self._changed:
            return [
                f"{each.describe()} had not confirmed {len(each.sent)} records when the session failed"
                for each in (*self._listeners.values(), *self._departed.values())
                if each.sent
            ]

    def close(self) -> None:
        """Wake all waiting threads."""
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
