"""The listeners of a store: its sources, their unconfirmed records, and their receipts."""

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

BEHIND = "a source has come back"
"""The result of `admit` and `wait_taken` when records must be sent again first."""
FULL = "the sources are full"
"""Their result when nothing has changed for a second: a receipt may be lost, and must be requested."""
CLOSED = "the store has been closed"


@attrs.define(eq=False)
class Audience:
    """Keep account of the sources that listen to one store. All methods may be called from any thread.

    The callbacks run in zenoh's threads; they take the lock for microseconds and never wait.

    Attributes:
        announced: The key expression of what is sent.
        timeout_s: How long a source that has gone may come back: a link is broken, its process may live.
        settle_s: How much longer the end waits for it, so that both ends count the same as lost.
        all_present: No source is away.
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
        """Note a source that came or went."""
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
                self._listeners[token[0]] = Listener(*token) if given_up is None else given_up.return_as(token[1])
            elif not known.present:
                known.present, known.is_behind = True, True
                self._has_behind = True
            self.all_present = all(each.present for each in self._listeners.values())
            self._matching.clear()
            self._changed.notify_all()

    def on_receipt(self, sample: zenoh.Sample) -> None:
        """Note the records that a source has taken."""
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
        """Return the sources that have come back, each once: what they have not received is to be sent again."""
        with self._changed:
            self._has_behind = False
            found = [each for each in self._listeners.values() if each.is_behind]
            for each in found:
                each.is_behind = False
            return found

    def unreceived(self, listener: Listener) -> list[int]:
        """Return the last numbers of the messages that this source has not received, as far as it has said."""
        with self._changed:
            return [each.last for each in listener.sent if each.last > listener.receipt.received]

    def needed_from(self) -> int | None:
        """Return the last number of the oldest message that somebody may need again; None: none is."""
        with self._changed:
            return self._needed_from()

    def is_heard(self, key: str) -> bool:
        """Return whether somebody is there who may hear of this key; foreign subscribers may always be."""
        with self._changed:
            matching = self._match(key)
            return not matching or any(each.present for each in matching)

    def room(self, key: str) -> int:
        """Return how many records all sources that match `key` have room for, at least 1, without waiting."""
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
        """Wait until the sources that match `key` are there and have room, and book a message for each of them.

        Args:
            key: The key that will be published on.
            number: The running number of its first record.
            size_bytes: Its size.
            at_least: How many sources must be there.
            timeout_s: Seconds to wait for sources to come. For room it waits as long as the source is there.
            key_number: The running number of its first record on the key.
            count: How many records it has; several only as far as `room` says.

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
        """Wait until nobody needs the message any more whose last number this is; return what is wrong, or None."""
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
        """Ask every source for a receipt of all that was sent to it, and wait for them.

        At the end it waits, `settle_s` longer, for sources that are behind a broken link, whether that has been noticed
        or not: only they can count what they miss.

        Args:
            send: Sends a mark to a source.
            at_end: Nothing will follow.
            timeout_s: Seconds to wait.
            send_again: Sends again what a source has not received, if it has come back, or with `repeat`.

        Returns:
            What has been lost since the last call, one sentence each; empty if everything has arrived.
        """
        mark = self._next_mark()
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
        if at_end and open_ and not self._closed:  # they are told to count: what has not come will not come any more
            mark = self._next_mark()
            until = time.monotonic() + _LAST_WORD_S
            while time.monotonic() < until and any(
                self._is_here(each) and not self._has_all(each, mark) for each in open_
            ):
                for each in open_:
                    send(each, each.mark(mark, is_end=True, is_final=True))
                self._wait_for(open_, mark, time.monotonic() + _REPEAT_S)
        return self._problems(asked.values(), mark, timeout_s, at_end=at_end)

    def full(self) -> list[Listener]:
        """Return the sources that are there and have not taken all that was sent to them."""
        with self._changed:
            return [each for each in self._listeners.values() if each.present and each.sent]

    def unconfirmed(self) -> list[str]:
        """Return a sentence for each source that has not taken all that was sent to it."""
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
        """Wait for receipts; a mark that met a broken connection is repeated, so that it is not for long."""
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
            if any(each.is_open(mark) for each in left):  # a token's end overtakes the last receipt
                self._changed.wait_for(lambda: not any(each.is_open(mark) for each in left), _OVERTAKEN_S)
            gone = [each for each in self._departed.values() if each.sent]
            problems = [
                f"{each.describe()} went away with {each.untaken()} records that it had not taken"
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
                if each.is_given_up and each.sent and not each.is_told:
                    each.is_told = True
                    problems.append(
                        f"{each.describe()} stayed away for {self.timeout_s:g} s with records that it had not taken: "
                        + ("it has not come back to count them" if at_end else "it counts them when it is back")
                    )
            return problems

    def _next_mark(self) -> int:
        with self._changed:
            self._mark += 1
            return self._mark

    def _awaited(self) -> list[Listener]:
        """Return the sources that were given up, may come back, and then count what they miss."""
        known = self._given_up.values()
        return [each for each in known if each.is_given_up and each.sent and not is_dead(each.card.process)]

    def _is_here(self, listener: Listener) -> bool:
        return self._listeners.get(listener.id) is listener

    def _has_all(self, listener: Listener, mark: int) -> bool:
        """Return whether a source has answered a mark, and has all that was sent before, or has counted it as lost."""
        return listener.receipt.mark >= mark and listener.receipt.received >= listener.last

    def _needed_from(self) -> int | None:
        return min((each.sent[0].last for each in self._listeners.values() if each.sent), default=None)

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

    def _wait(self, timeout_s: float) -> bool:
        """Wait for a change, and return whether there was one; check whether a vanished source will not come back."""
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
