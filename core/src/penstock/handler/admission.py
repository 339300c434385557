"""Admission: makes numbered records of the data that are put into a handler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.coords import DataCoordinates
from penstock.handler.ledger import Ledger
from penstock.handler.reading import Reading
from penstock.handler.watched import WatchedStore
from penstock.record import Record


class Admission:
    """Make numbered records of data, unless data of the same coordinates exist and are kept.

    Args:
        name: The channel of the records.
        ledger: Tracks all coordinates.
        reading: Knows whether the store held records before.
        store: The store, whose names of existing records are skipped.
        stores_as_put: Whether there is no processor, so that the records go to the store as they are.
    """

    def __init__(
        self, name: str, *, ledger: Ledger, reading: Reading, store: WatchedStore, stores_as_put: bool
    ) -> None:
        self._name = name
        self._ledger = ledger
        self._reading = reading
        self._store = store
        self._stores_as_put = stores_as_put
        self._next = 0

    def begin(self, held: int) -> None:
        """Number records after the `held` ones of a store that was opened."""
        self._next = held
        self._reading.held_before = held > 0 or self._store.knows_keys
        self._ledger.begin_at(held, self._store.free_name if held else None)

    def may_put(self, data: Any, coords: DataCoordinates, metadata: Mapping[str, Any], time_ns: int) -> bool:
        """Return whether data of these coordinates would be taken. Raises RecordExistsError."""
        return coords not in self._ledger or self._ledger.may_replace(coords)

    def admit(self, data: Any, coords: DataCoordinates, metadata: Mapping[str, Any], time_ns: int) -> Record | None:
        """Make the next record, unless it is skipped. Called under the lock of the inlet, in order."""
        record = Record(data, channel=self._name, seq=self._next, time_ns=time_ns, coords=coords, metadata=metadata)
        if self._stores_as_put and self._reading.held_before:
            record = self._store.free_name(record)
        if not self._ledger.admit(record):
            return None
        self._next = record.seq + 1
        return record
