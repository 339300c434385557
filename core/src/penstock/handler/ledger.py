"""Ledger: where the data of all coordinates are, from `put` on, and the waiters for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import attrs
import msgspec

from penstock.coords import DataCoordinates
from penstock.errors import ObjectNotFoundError, PenstockError, RecordExistsError
from penstock.handler.errors import DataDiscardedError, DataFailedError
from penstock.handler.events import Events
from penstock.record import Record

_replace = msgspec.structs.replace
WhenExists = Literal["error", "replace", "skip"]

_DISCARDED = ""
"""The state of coordinates for which the processor returned nothing; any other text is an error."""


class _Item(msgspec.Struct, eq=False, gc=False):
    """The data of one coordinates: before the processor, behind it, in the store, or missing and why.

    Data move from `raw` to `ready` to `key`, and are set in the next field before they are cleared in the last one.
    Read in this order, even without the lock, they are never missed. It is a struct, since one is made for each record,
    and not tracked by the garbage collector, since there may be millions: they hold no data after the end, and so no
    cycles.
    """

    raw: Record | None = None
    ready: Record | None = None
    key: str | None = None
    trouble: str | None = None

    def there(self) -> bool:
        return self.raw is not None or self.ready is not None or self.key is not None


@attrs.frozen
class Stored:
    """Data that are no longer in memory.

    Attributes:
        key: Their key in the store; "" if it cannot be read.
    """

    key: str


Outcome = Record | Stored | PenstockError


class Waiter:
    """A waiter for the data of one coordinates.

    Attributes:
        coords, processed: The data requested.
        stored: Whether they must be in the store.
        outcome: A record, its location in the store, or the error to raise; None as long as it waits.
    """

    def __init__(self, coords: DataCoordinates, processed: bool | None, stored: bool = False) -> None:
        self.coords = coords
        self.processed = processed
        self.stored = stored
        self.outcome: Outcome | None = None
        self._answered = threading.Event()

    def answer(self, outcome: Outcome) -> None:
        """Wake the waiting thread."""
        self.outcome = outcome
        self._answered.set()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait; return whether there is an outcome in time."""
        return self._answered.wait(timeout_s)


class Ledger:
    """Track the location of the data of all coordinates, without gaps. Any thread; it never waits.

    New coordinates are added, and lists of stored records recorded, without the lock: threads that put, process and
    store would spend more time passing it to each other than working. Operations in which two of them could change the
    same item acquire it: coordinates that are put again, and all of `when_exists="replace"`.

    Data leave the memory when they are stored, discarded or failed. As long as the handler exists, it keeps
    an entry for each coordinates, with its key or its error.

    Attributes:
        processes: Whether there is a processor.
        when_exists: The action for coordinates put twice.
        events: The subscribers.
    """

    def __init__(self, name: str, *, processes: bool, when_exists: WhenExists, events: Events) -> None:
        self.name = name
        self.processes = processes
        self.when_exists = when_exists
        self.events = events
        self._items: dict[DataCoordinates, _Item] = {}
        self._waiters: dict[DataCoordinates, list[Waiter]] = {}
        self._lock = threading.Lock()
        self._given = 0
        self._free_name: Callable[[Record], Record] | None = None
        self._over = ""

    def __contains__(self, coords: DataCoordinates) -> bool:
        item = self._items.get(coords)
        return item is not None and item.there()

    def knows(self, coords: DataCoordinates) -> bool:
        """Return whether these coordinates were ever put, returned by the processor, or found in the store."""
        return coords in self._items

    def _new(self, coords: DataCoordinates) -> _Item:
        return self._items.setdefault(coords, _Item())

    # -- events -------------------------------------------------------------------------------------------------

    def found(self, coords: DataCoordinates, key: str) -> None:
        """Record data that were in the store before."""
        with self._lock:
            item = self._items.get(coords) or self._new(coords)
            if not item.there():
                item.key = key

    def admit(self, record: Record) -> bool:
        """Record a record that is put; return False if it is skipped. Raises RecordExistsError."""
        coords = record.coords
        new = _Item(record)
        item = self._items.setdefault(coords, new)
        if item is not new:
            with self._lock:
                if item.there() and not self.may_replace(coords):
                    return False
                item.raw = record
                item.trouble = None
        if "acquired" in self.events.wanted:
            self.events.tell("acquired", (coords,))
        if self._waiters and coords in self._waiters:
            with self._lock:
                self._wake(coords)
        return True

    def may_replace(self, coords: DataCoordinates) -> bool:
        """Return whether a record may replace an existing one. Raises RecordExistsError."""
        if self.when_exists == "error":
            raise RecordExistsError(
                f"handler {self.name!r}: there are data of {coords!r} already; use other coordinates, or set "
                "when_exists='replace' or 'skip'"
            )
        return self.when_exists == "replace"

    def processed(self, record: Record, results: Sequence[Record], *, kept: bool = False) -> list[Record]:
        """Record the processor's results for a record, and return them with their own numbers.

        `kept` means that the processor still holds the record. Raises RecordExistsError, and records nothing then.
        """
        with self._lock:
            given = self._give(results)
            self._note_processed(record, self._items.get(record.coords), kept)
        return given

    def processed_one(self, record: Record, result: Record) -> Record | None:
        """Do the same with a single result, and return it, or None if it is skipped."""
        with self._lock:
            item = self._items.get(record.coords)
            same = result.coords is record.coords
            if same and item is not None and item.ready is None and item.key is None and self._free_name is None:
                number = self._given
                self._given = number + 1
                given = result if result.seq == number else _replace(result, seq=number)
                item.ready = given
                item.trouble = None
                if item.raw is not None and item.raw.seq == record.seq:
                    item.raw = None
                if self._waiters:
                    self._wake(record.coords)
                if "processed" in self.events.wanted:
                    self.events.tell("processed", (record.coords,))
                return given
            several = self._give((result,))
            self._note_processed(record, self._items.get(record.coords), kept=False)
        return several[0] if several else None

    def _note_processed(self, record: Record, item: _Item | None, kept: bool) -> None:
        if item is not None and not kept and item.raw is not None and item.raw.seq == record.seq:
            item.raw = None
            if not item.there():
                item.trouble = _DISCARDED
            self._wake(record.coords)

    def late(self, results: Sequence[Record]) -> list[Record]:
        """Record results of the processor without a record: from a flush or an expired deadline."""
        with self._lock:
            return self._give(results)

    def _give(self, results: Sequence[Record]) -> list[Record]:
        given: list[Record] = []
        seen: set[DataCoordinates] = set()
        number = self._given
        for result in results:
            item = self._items.get(result.coords)
            again = result.coords in seen  # several of the same coordinates in one result are all stored
            exists = again or (item is not None and (item.ready is not None or item.key is not None))
            if exists and not (again and self.when_exists == "error") and not self.may_replace(result.coords):
                continue
            seen.add(result.coords)
            numbered = result.replace(seq=number)
            if self._free_name is not None:
                numbered = self._free_name(numbered)
            number = numbered.seq + 1
            given.append(numbered)
        self._given = number
        for result in given:
            item = self._items.get(result.coords) or self._new(result.coords)
            item.ready = result
            item.trouble = None
        if self._waiters:
            for result in given:  # after all have been added: of several, the last counts
                self._wake(result.coords)
        if given and "processed" in self.events.wanted:
            self.events.tell("processed", [result.coords for result in given])
        return given

    def begin_at(self, number: int, free_name: Callable[[Record], Record] | None = None) -> None:
        """Number records for the store; `free_name` skips numbers that the store has already."""
        self._given = number
        self._free_name = free_name

    def stored(self, records: Sequence[Record], keys: Sequence[str]) -> None:
        """Record that these records are in the store; they leave the memory."""
        if self.when_exists == "replace":
            with self._lock:
                self._note_stored(records, keys)
        else:
            self._note_stored(records, keys)
        if self._waiters:
            waited_for = [record.coords for record in records if record.coords in self._waiters]
            if waited_for:
                with self._lock:
                    for coords in waited_for:
                        self._wake(coords)
        if "stored" in self.events.wanted:
            self.events.tell("stored", [record.coords for record in records])

    def _note_stored(self, records: Sequence[Record], keys: Sequence[str]) -> None:
        processes, get = self.processes, self._items.get
        for record, key in zip(records, keys, strict=True):
            item = get(record.coords) or self._new(record.coords)
            item.key = key
            if item.trouble is not None:
                item.trouble = None
            ready, raw = item.ready, item.raw
            if ready is not None:
                if ready.seq == record.seq:  # otherwise a newer one of the same coordinates exists and stays
                    item.ready = None
            elif raw is not None and not processes and raw.seq == record.seq:
                item.raw = None

    def failed(self, record: Record, why: str, *, stored: bool) -> None:
        """Record that a record failed for good: in the store, or (`stored` False) before it."""
        with self._lock:
            item = self._items.get(record.coords) or self._new(record.coords)
            if stored or not self.processes:
                self._release(item, record)
            elif item.raw is not None and item.raw.seq == record.seq:
                item.raw = None
            if not item.there():
                item.trouble = why or "failed"
            self._wake(record.coords)

    def refused(self, coords: DataCoordinates, why: str) -> None:
        """Record that data of these coordinates were refused."""
        with self._lock:
            item = self._items.get(coords) or self._new(coords)
            if not item.there():
                item.trouble = why
            self._wake(coords)

    def _release(self, item: _Item, record: Record) -> None:
        """Release stored records; a newer record of the same coordinates stays."""
        if self.processes:
            if item.ready is not None and item.ready.seq == record.seq:
                item.ready = None
        elif item.raw is not None and item.raw.seq == record.seq:
            item.raw = None

    def key_of(self, coords: DataCoordinates) -> str | None:
        """Return the key under which the data of these coordinates are stored, or None."""
        item = self._items.get(coords)
        return item.key if item is not None else None

    def end(self, why: str) -> None:
        """Record the end: records in memory that are not stored are lost, and all waits end."""
        with self._lock:
            self._over = why
            for item in list(self._items.values()):
                if item.raw is not None or item.ready is not None:
                    item.raw = item.ready = None
                    if item.key is None:
                        item.trouble = f"was neither stored nor kept elsewhere when it ended: {why}"
            for coords in list(self._waiters):
                self._wake(coords)

    # -- waiters -----------------------------------------------------------------------------------------------------

    def ask(self, coords: DataCoordinates, processed: bool | None, stored: bool = False) -> Waiter:
        """Return a waiter, with its outcome if that is known already."""
        waiter = Waiter(coords, processed, stored)
        with (
            self._lock
        ):  # registered before the check: threads that change an item without the lock check for waiters afterwards
            self._waiters.setdefault(coords, []).append(waiter)
            self._wake(coords)
        return waiter

    def forget(self, waiters: Iterable[Waiter]) -> None:
        """Remove waiters that are no longer in use."""
        with self._lock:
            for waiter in waiters:
                others = self._waiters.get(waiter.coords)
                if others and waiter in others:
                    others.remove(waiter)
                    if not others:
                        del self._waiters[waiter.coords]

    def absent(self, waiter: Waiter) -> ObjectNotFoundError:
        """Return the error for data that are missing, without waiting."""
        if waiter.coords in self:
            return ObjectNotFoundError(
                f"handler {self.name!r}: the data of {waiter.coords!r} are not processed yet; wait with timeout_s"
            )
        return ObjectNotFoundError(f"handler {self.name!r}: there are no data of {waiter.coords!r}")

    def _wake(self, coords: DataCoordinates) -> None:
        waiting = self._waiters.get(coords) if self._waiters else None
        if not waiting:
            return
        left = []
        for waiter in waiting:
            outcome = self._look(waiter)
            if outcome is None:
                left.append(waiter)
            else:
                waiter.answer(outcome)
        if left:
            self._waiters[coords] = left
        else:
            del self._waiters[coords]

    def _look(self, waiter: Waiter) -> Outcome | None:
        item = self._items.get(waiter.coords)
        if item is not None:
            raw, ready, key, trouble = item.raw, item.ready, item.key, item.trouble  # in this order, as it says
            wants_raw = waiter.processed is False and self.processes
            wants_processed = bool(waiter.processed) and self.processes
            there = raw is not None or ready is not None or key is not None
            if waiter.stored:
                if raw is None and ready is None:
                    if key is not None:
                        return Stored(key)
                    if trouble is not None:
                        return self._trouble(waiter.coords, trouble)
            elif raw is not None and not wants_processed:
                return raw
            elif there and wants_raw:
                return ObjectNotFoundError(
                    f"handler {self.name!r}: the data of {waiter.coords!r} are processed; the data as put are not "
                    "kept: use processed=None or True"
                )
            elif ready is not None:
                return ready
            elif key is not None:
                return Stored(key)
            elif trouble is not None:
                return self._trouble(waiter.coords, trouble)
        if self._over:
            return ObjectNotFoundError(
                f"handler {self.name!r}: there are no data of {waiter.coords!r}, and none will come: {self._over}"
            )
        return None

    def _trouble(self, coords: DataCoordinates, trouble: str) -> PenstockError:
        if trouble == _DISCARDED:
            return DataDiscardedError(
                f"handler {self.name!r}: the processor returned nothing for {coords!r}: it discarded or keeps the data",
                coords,
            )
        return DataFailedError(f"handler {self.name!r}: the data of {coords!r}: {trouble}", coords)
