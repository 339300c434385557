"""The sources that listen to a store, their unconfirmed records, and their receipts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

import attrs
import zenoh

from penstock_zenoh.listener import Listener
from penstock_zenoh.wire import Mark, Receipt, SourceCard, intersects, is_dead, read_card, read_message

_REPEAT_S = 0.5
_OVERTAKEN_S = 0.5
_LAST_WORD_S = 3.0
_LOOK_S = 0.1
_ASK_S = 1.0
_REMEMBERED = 256

BEHIND = "a source has reconnected"
"""Result of `admit` and `wait_taken` when records must be sent again first."""
FULL = "the sources are full"
"""Result of both when nothing has changed for a second: a receipt may be lost and must be requested."""
CLOSED = "the store has been closed"


@attrs.define(eq=False)
class Audience:
    """Keep the state of the sources that listen to one store. All methods may be called from any thread.

    The callbacks run in zenoh's threads; they hold the lock for microseconds and never wait.

    Attributes:
        announced: The key expression that includes every published key.
        timeout_s: Seconds in which a disconnected source may return: the link is broken, its process may be alive.
        settle_s: Additional seconds that the end waits for it, so that both ends count the same loss.
        all_present: No source is disconnected.
    """

    announced: str
    timeout_s: float = 30.0
    settle_s: float = 0.0
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
        """Record that a source appeared or disappeared."""
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
                given_up = self._given_up.pop(token[0], None)
                listener = Listener(*token) if given_up is None else given_up.return_as(token[1])
                self._listeners[token[0]] = listener
                self._has_behind = self._has_behind or listener.is_behind
            elif not known.present:
                known.present, known.is_behind = True, True
                self._has_behind = True
            self.all_present = all(each.present for each in self._listeners.values())
            self._matching.clear()
            self._changed.notify_all()

    def on_receipt(self, sample: zenoh.Sample) -> None:
        """Record the records that a source has taken."""
        receipt = read_message(sample.payload.to_bytes(), Receipt)
        with self._changed:
            if receipt is None:
                return
            listener = self._listeners.get(receipt.source) or self._given_up.get(receipt.source)
            if listener is None:
                return
            listener.take(receipt)
            if receipt.leaves and receipt.source in self._listeners and not listener.present:
                self._depart(listener)
            self._changed.notify_all()

    def behind(self) -> list[Listener]:
        """Return each source that has reconnected, once: its unreceived messages must be sent again."""
        with self._changed:
            self._has_behind = False
            found = [each for each in self._listeners.values() if each.is_behind]
            for each in found:
                each.is_behind = False
            return found

    def unreceived(self, listener: Listener) -> list[int]:
        """Return the last numbers of the messages that this source has not confirmed as received."""
        with self._changed:
            return [each.last for each in listener.sent if each.last > listener.receipt.received]

    def needed_from(self) -> int | None:
        """Return the last number of the oldest message that a source may need again; None if there is none."""
        with self._changed:
            return self._needed_from()

    def is_heard(self, key: str) -> bool:
        """Return whether a receiver may be subscribed to this key; foreign subscribers are always possible."""
        with self._changed:
            matching = self._match(key)
            return not matching or any(each.present for each in matching)

    def room(self, key: str) -> int:
        """Return the number of records that every source matching `key` can accept, at least 1, without waiting."""
        with self._changed:
            return max(1, min((each.room() for each in self._match(key)), default=1 << 30))

    def admit(
        self,
        key: str,
        number: int,
        size_bytes: int,
        *,
        at_least: int,
        timeout_s: float,
        key_number: int = 0,
        count: int = 1,
    ) -> str | None:
        """Wait until the sources that match `key` are present and have free capacity; book a message for each of them.

        Args:
            key: The key to publish on.
            number: Running number of the message's first record.
            size_bytes: Size of the message in bytes.
            at_least: Number of sources that must be present.
            timeout_s: Seconds to wait for sources. The wait for capacity lasts as long as the source is present.
            key_number: Running number of the first record on the key.
            count: Number of records in the message; at most `room`.

        Returns:
            None if the message is booked; otherwise the problem, and nothing is booked.
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
                    if listener.room() <= 0:
                        if not self._wait(_ASK_S):
                            return FULL
                        break
                else:
                    for listener in matching:
                        listener.book(key, number, key_number, count, size_bytes)
                    return None
            return CLOSED

    def wait_taken(self, number: int) -> str | None:
        """Wait until no source needs the message with this last number; return the problem, or None."""
        with self._changed:
            while not self._closed:
                if self._has_behind:
                    return BEHIND
                needed = self._needed_from()
                if needed is None or needed > number:
                    return None
                if not self._wait(_ASK_S):
                    return FULL
            return CLOSED

    def confirm(
        self,
        send: Callable[[Listener, Mark], None],
        *,
        at_end: bool,
        timeout_s: float,
        send_again: Callable[..., None] = lambda listener, *, repeat: None,
    ) -> list[str]:
        """Ask every source for a receipt of all records sent to it, and wait for the receipts.

        At the end it waits another `settle_s` for sources behind a broken link, noticed or not: only they can count the
        records that they miss.

        Args:
            send: Sends a mark to a source.
            at_end: No record will follow.
            timeout_s: Seconds to wait.
            send_again: Repeats the messages that a source has not received, if it has reconnected, or with `repeat`.

        Returns:
            A sentence for each loss since the last call; empty if everything has arrived.
        """
        mark = self.next_mark()
        until = time.monotonic() + timeout_s + (self.settle_s if at_end else 0.0)
        asked: dict[str, Listener] = {}
        now: float | None = None
        while True:
            with self._changed:
                waits = at_end and (bool(self._awaited()) or not self.all_present)
                is_first = now is None
                asked |= {
                    each.id: each for each in self._listeners.values() if at_end or is_first or each.owed is not None
                }
                open_ = [each for each in asked.values() if self._is_here(each) and not self._has_all(each, mark)]
                now = time.monotonic()
            if self._closed or not (open_ or waits) or now >= until:
                break
            self._ask(open_, mark, send, send_again, at_end=at_end)
            self._wait_for(open_, mark, min(until, now + _REPEAT_S))
        if at_end and open_ and not self._closed:  # the final mark makes them count: nothing more will arrive
            mark = self.next_mark()
            until = time.monotonic() + _LAST_WORD_S
            while time.monotonic() < until and any(
                self._is_here(each) and not self._has_all(each, mark) for each in open_
            ):
                for each in open_:
                    send(each, each.mark(mark, is_end=True, is_final=True))
                self._wait_for(open_, mark, time.monotonic() + _REPEAT_S)
        return self._problems(asked.values(), mark, timeout_s, at_end=at_end)

    def full(self) -> list[Listener]:
        """Return the present sources that have not taken all records sent to them."""
        with self._changed:
            return [each for each in self._listeners.values() if each.present and each.sent]

    def unconfirmed(self) -> list[str]:
        """Return a sentence for each source that has not taken all records sent to it."""
        with self._changed:
            return [
                f"{each.describe()} had not confirmed {each.untaken()} records when the session failed"
                for each in (*self._listeners.values(), *self._departed.values())
                if each.sent
            ]

    def close(self) -> None:
        """Wake all waiting threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _ask(
        self,
        open_: list[Listener],
        mark: int,
        send: Callable[[Listener, Mark], None],
        send_again: Callable[..., None],
        *,
        at_end: bool,
    ) -> None:
        for each in open_:
            if each.present:
                send_again(each, repeat=each.receipt.mark >= mark)
                send(each, each.mark(mark, is_end=at_end, is_final=at_end and each.owed is not None))

    def _wait_for(self, open_: list[Listener], mark: int, until: float) -> None:
        """Wait briefly for receipts; the caller repeats a mark that a broken connection may have lost."""
        with self._changed:
            here = list(self._listeners)
            before = [each.present for each in open_]
            while time.monotonic() < until and not self._closed:
                if open_ and all(self._has_all(each, mark) for each in open_):
                    return
                self._wait(until - time.monotonic())
                if before != [each.present for each in open_] or here != list(self._listeners):
                    return

    def _problems(self, asked: Iterable[Listener], mark: int, timeout_s: float, *, at_end: bool) -> list[str]:
        with self._changed:
            asked = list(asked)
            left = [*self._departed.values(), *(each for each in asked if not self._is_here(each))]
            if any(each.is_open(mark) for each in left):  # the end of a token overtakes the last receipt
                self._changed.wait_for(lambda: not any(each.is_open(mark) for each in left), _OVERTAKEN_S)
            gone = [each for each in self._departed.values() if each.sent]
            problems = [
                f"{each.describe()} left {each.untaken()} records untaken when it disappeared"
                for each in gone
                if not each.is_given_up
            ]
            self._departed.clear()
            for each in asked:
                lost = each.receipt.lost - each.lost_seen
                each.lost_seen = each.receipt.lost
                if lost:
                    problems.append(f"{each.describe()} misses {lost} records")
                if not self._is_here(each):
                    continue
                if each.receipt.mark < mark or each.receipt.received < each.last:
                    problems.append(f"{each.describe()} has not confirmed within {timeout_s:g} s")
                elif each.owed is not None:
                    each.owed = None
            for each in self._given_up.values():
                if each.is_given_up and each.sent and not each.is_reported:
                    each.is_reported = True
                    problems.append(
                        f"{each.describe()} was disconnected for {self.timeout_s:g} s with untaken records: "
                        + ("it has not reconnected to count them" if at_end else "it counts them when it reconnects")
                    )
            return problems

    def next_mark(self) -> int:
        """Return the number of a new mark."""
        with self._changed:
            self._mark += 1
            return self._mark

    def _awaited(self) -> list[Listener]:
        """Return the sources that were given up and may reconnect to count the records that they miss."""
        known = self._given_up.values()
        return [each for each in known if each.is_given_up and each.sent and not is_dead(each.card.process)]

    def _is_here(self, listener: Listener) -> bool:
        return self._listeners.get(listener.id) is listener

    def _has_all(self, listener: Listener, mark: int) -> bool:
        """Return whether a source has answered a mark and has received, or counted as lost, all records before it."""
        return listener.receipt.mark >= mark and listener.receipt.received >= listener.last

    def _needed_from(self) -> int | None:
        return min((each.sent[0].last for each in self._listeners.values() if each.sent), default=None)

    def _depart(self, listener: Listener) -> None:
        """Stop waiting for a source that has disappeared."""
        self._listeners.pop(listener.id, None)
        if listener.sent:  # its last receipt may still be on the way
            self._departed[listener.id] = listener
        self._given_up[listener.id] = listener
        if len(self._given_up) > _REMEMBERED:
            del self._given_up[next(iter(self._given_up))]
        self.all_present = all(each.present for each in self._listeners.values())
        self._matching.clear()
        self._changed.notify_all()

    def _wait(self, timeout_s: float) -> bool:
        """Wait for a change and return whether there was one; give up sources that stayed away for too long."""
        away = [each for each in self._listeners.values() if not each.present]
        now = time.monotonic()
        for each in away:
            is_over = is_dead(each.card.process)
            if is_over or now - each.gone_at >= self.timeout_s:
                each.is_given_up = not is_over
                self._depart(each)
                return True
        return self._changed.wait(min(timeout_s, _LOOK_S) if away else timeout_s)

    def _match(self, key: str) -> tuple[Listener, ...]:
        found = self._matching.get(key)
        if found is None:
            found = tuple(each for each in self._listeners.values() if intersects(each.card.key, key))
            if len(self._matching) >= 4096:
                self._matching.clear()
            self._matching[key] = found
        return found
