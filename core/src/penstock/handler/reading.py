"""Reading: find the data of coordinates in memory or in the store, or wait for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from penstock.coords import DataCoordinates
from penstock.errors import CannotGetObjectError, ConfigError, CoordinatesError, ObjectNotFoundError, RunError
from penstock.handler.errors import DataTimeoutError
from penstock.handler.ledger import Ledger, Stored, Waiter
from penstock.handler.watched import WatchedStore
from penstock.record import Record
from penstock.short_text import short


def deadline_of(timeout_s: float | None) -> float | None:
    """Return the end of these seconds by the monotonic clock; None for never, and for more than threads can wait."""
    try:
        return None if timeout_s is None or timeout_s > threading.TIMEOUT_MAX else time.monotonic() + timeout_s
    except TypeError:
        raise ConfigError(f"timeout_s={short(timeout_s)}: must be a number of seconds, or None") from None


class Reading:
    """Answer requests, from any thread.

    Attributes:
        held_before: Whether the store held records before the handler began.
        closed: Whether the store is closed.
    """

    def __init__(self, name: str, ledger: Ledger, store: WatchedStore) -> None:
        self.held_before = False
        self.closed = False
        self._name = name
        self._ledger = ledger
        self._store = store

    def one(self, coords: Mapping[str, Any], processed: bool | None, timeout_s: float | None) -> Record:
        """Return the data of these coordinates. Raises as `DataHandler.get` does."""
        return self.wait(self.ask(coords, processed), timeout_s, deadline_of(timeout_s))

    def several(
        self,
        coords: Iterable[Mapping[str, Any]],
        processed: bool | None,
        timeout_s: float | None,
        *,
        stored: bool,
        read: bool,
    ) -> Iterator[Record]:
        """Wait for the data of each of these coordinates, and yield them in order, within `timeout_s` in all.

        The coordinates of a list are requested at once; those of an iterator one by one. Raises as `wait` does.
        """
        deadline = deadline_of(timeout_s)
        waiters: Iterable[Waiter] = (self.ask(each, processed, stored) for each in coords)
        if isinstance(coords, Sequence):  # registered all at once, so that none is missed during a wait
            waiters = list(waiters)
        try:
            for waiter in waiters:
                yield self.wait(waiter, timeout_s, deadline, read=read)
        finally:
            if isinstance(waiters, list):
                self._ledger.forget(waiters)

    def holds(self, coords: object) -> bool:
        """Return whether data of these coordinates exist now, in memory or in the store."""
        try:
            wanted = DataCoordinates(coords)  # type: ignore[arg-type]  # it raises for invalid values itself
        except CoordinatesError:
            return False
        if not self.closed:
            self.look_up(wanted)
        return wanted in self._ledger

    def ask(self, coords: Mapping[str, Any], processed: bool | None, stored: bool = False) -> Waiter:
        """Request the data of these coordinates. Raises RunError, ConfigError, CoordinatesError."""
        coords = coords if type(coords) is DataCoordinates else DataCoordinates(coords)
        if self.closed:
            raise RunError(f"handler {self._name!r}: it is closed; get the data of {coords!r} from the store")
        if processed and not self._ledger.processes:
            raise ConfigError(f"processed={processed!r}: handler {self._name!r} has no process_function; remove it")
        self.look_up(coords)
        return self._ledger.ask(coords, processed, stored)

    def wait(self, waiter: Waiter, timeout_s: float | None, deadline: float | None, *, read: bool = True) -> Record:
        """Wait for the data, and return them; `timeout_s` is the user's argument. Raises as `get` does.

        If they are in the store and not requested (`read` is False), the record returned is empty.
        """
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not waiter.wait(left):
                self._ledger.forget((waiter,))
                if waiter.outcome is None:
                    if not timeout_s:
                        raise self._ledger.absent(waiter)
                    raise DataTimeoutError(
                        f"handler {self._name!r}: no data of {waiter.coords!r} arrived within {timeout_s:g} s"
                    )
            outcome = waiter.outcome
            if isinstance(outcome, Record):
                return outcome
            if not isinstance(outcome, Stored):
                assert outcome is not None  # answered
                raise outcome
            if not read:
                return Record(None, coords=waiter.coords)
            try:
                return self._read(waiter.coords, outcome.key)
            except ObjectNotFoundError as error:
                # A newer record may have replaced it between two checks, under another key.
                again = self._ledger.ask(waiter.coords, waiter.processed, waiter.stored)
                if again.outcome == outcome:
                    raise ObjectNotFoundError(
                        f"handler {self._name!r}: the data of {waiter.coords!r} were stored, and are gone: {error}"
                    ) from error
                waiter = again

    def _read(self, coords: DataCoordinates, key: str) -> Record:
        if not self._store.reads:
            raise CannotGetObjectError(
                f"handler {self._name!r}: the data of {coords!r} are stored, but {type(self._store.inner).__name__} "
                "cannot be read from; get them while they are in memory, or use another store"
            )
        try:
            record: Record = self._store.inner.get(key)
        except CannotGetObjectError as error:
            raise CannotGetObjectError(f"handler {self._name!r}: the data of {coords!r}: {error}") from error
        return record

    def look_up(self, coords: DataCoordinates) -> None:
        """Record in the ledger the data that were in the store before this handler began."""
        if not self.held_before or self._ledger.knows(coords):
            return
        inner = self._store.inner
        if self._store.knows_keys:
            key = inner.key_at(coords)
            if key is not None:
                self._ledger.found(coords, key)
            return
        try:
            for key in inner.keys(**coords):
                if inner.get(key).coords == coords:
                    self._ledger.found(coords, key)
                    return
        except (CoordinatesError, ObjectNotFoundError):  # it keeps no coordinates, or the record was just deleted
            return
