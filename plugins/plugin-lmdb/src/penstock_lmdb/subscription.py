"""A subscription: a thread that calls back for each change of a file that matches, whatever process made it."""

from __future__ import annotations

import fnmatch
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from penstock.codec import decode
from penstock.coords import DataCoordinates
from penstock.errors import CodecError, StoreError
from penstock_lmdb.change_log import Change, ChangeLog, Kind
from penstock_lmdb.environment import Environment, Transaction
from penstock_lmdb.file_watch import FileWatch
from penstock_lmdb.naming import shown
from penstock_lmdb.object_value import ID, name_of

_log = logging.getLogger(__name__)
_AT_ONCE = 1000
ALL_KINDS = frozenset(("put", "replace", "delete"))


@attrs.frozen
class Event:
    """A change reported to a subscriber.

    Attributes:
        kind: "put", "replace" or "delete".
        key: The key of the record, or the id of the object.
        name: The name of the object, or the channel of the record; "" if it was deleted before its put was reported, or
            was damaged.
        position: Give it as `since` to continue after this change.
    """

    kind: Kind
    key: str | bytes
    name: str
    position: int


@attrs.define
class Wanted:
    """Which changes a subscriber wants: by a pattern of key or name, and by coordinates."""

    pattern: str
    coords: DataCoordinates
    kinds: frozenset[str]

    def event(self, transaction: Transaction, change: Change) -> Event | None:
        """Return the event to report for a change; None if it does not match, or a later change has made it void."""
        if change.kind not in self.kinds:
            return None
        return self._deleted(change) if change.kind == "delete" else self._put(transaction, change)

    def _put(self, transaction: Transaction, change: Change) -> Event | None:
        value = transaction.get(change.key)
        return self._matching(change, b"" if value is None else value)  # empty: deleted since

    def _deleted(self, change: Change) -> Event | None:
        return self._matching(change, change.remains)  # empty: it was damaged, or an earlier version deleted it

    def _matching(self, change: Change, value: bytes | memoryview) -> Event | None:
        text = shown(change.key)
        if not value:
            return Event(change.kind, text, "", change.position) if not self.coords and self._fits(text) else None
        try:
            record = decode(value)
        except CodecError:
            return None
        name = name_of(record)
        if not self._fits(text, name) or not record.coords.matches(self.coords):
            return None
        return Event(change.kind, change.key if record.metadata.get(ID) else text, name, change.position)

    def _fits(self, *texts: str) -> bool:
        return self.pattern == "*" or any(fnmatch.fnmatchcase(text, self.pattern) for text in texts)


class Subscription:
    """Call back in a thread of its own for each change that follows a position, in order."""

    def __init__(
        self, environment: Environment, log: ChangeLog, wanted: Wanted, tell: Callable[[Event], None], since: int | None
    ) -> None:
        """Begin behind `since`, or with what changes from now on.

        Raises:
            StoreError: `since` is not a position of this file, or the changes after it have been forgotten. Not
                retryable.
        """
        self._environment, self._log, self._wanted, self._tell = environment, log, wanted, tell
        last = environment.read(log.last)
        if since is not None and not (type(since) is int and 0 <= since <= last):
            raise StoreError(
                f"{environment.data_file}: since={since!r} is not a position of this file, whose last change is "
                f"{last}; if it was recreated, read its content, and subscribe from {last}",
                retryable=False,
            )
        self._position = last if since is None else since
        environment.read(lambda txn: log.after(txn, self._position, 1))
        self._ended = False
        self._watch = FileWatch(environment.data_file)
        self._thread = threading.Thread(target=self._follow, name="lmdb subscription", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Call back no more. Any number of times, from any thread."""
        if self._ended:
            return
        self._ended = True
        self._watch.wake()
        if threading.current_thread() is not self._thread and not self._environment.is_forked:
            self._thread.join()

    def _follow(self) -> None:
        try:
            while not self._ended:
                if not self._tell_all():
                    self._watch.wait(1.0)
        except StoreError as error:
            _log.error("a subscription ends: %s", error)
        finally:
            self._watch.close()

    def _tell_all(self) -> bool:
        """Report the changes since the last call; return whether there were any."""

        def look(transaction: Transaction) -> tuple[int, list[Event]]:
            changes = self._log.after(transaction, self._position, _AT_ONCE)
            events = [event for change in changes if (event := self._wanted.event(transaction, change)) is not None]
            return len(changes), events

        count, events = self._environment.read(look)
        self._position += count
        for event in events:
            if self._ended:
                break
            try:
                self._tell(event)
            except Exception:  # the subscriber's own: it costs it this event
                _log.exception("a subscriber of %s failed for %r", self._environment.data_file, event.key)
        return bool(count)


def wanted(pattern: str, coords: Mapping[str, Any], kinds: frozenset[str]) -> Wanted:
    """Return what a subscriber wants. Raises CoordinatesError."""
    return Wanted(pattern, DataCoordinates(coords), kinds)


class Subscriptions:
    """The subscriptions of a store."""

    def __init__(self) -> None:
        self._open: list[Subscription] = []

    def add(self, subscription: Subscription) -> Callable[[], None]:
        """Keep one, and return what ends it."""
        self._open.append(subscription)

        def end() -> None:
            subscription.end()
            if subscription in self._open:
                self._open.remove(subscription)

        return end

    def end(self) -> None:
        """End all."""
        for subscription in list(self._open):
            subscription.end()
        self._open.clear()
