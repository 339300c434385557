"""DataStorageStore: a storage that has put, get_data, get_metadata, finish and close, as a store."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import attrs

from penstock.coords import DataCoordinates
from penstock.errors import CannotGetObjectError, ObjectNotFoundError, StoreError, WiringError
from penstock.record import Record

METHODS: Final = ("put", "get_data", "get_metadata", "finish", "close")
"""The methods of a storage; `__contains__` is used if it exists."""


def as_store(storage: Any) -> DataStorageStore:
    """Return a store that keeps its records in a storage. Raises WiringError if the storage lacks a method."""
    missing = [name for name in METHODS if not callable(getattr(storage, name, None))]
    if missing:
        raise WiringError(
            f"{type(storage).__name__} has get_data and no write, and so is treated as a storage, but it has no "
            f"{', '.join(missing)}; define all of {', '.join(METHODS)}"
        )
    return DataStorageStore(storage=storage)


@attrs.define(kw_only=True)
class DataStorageStore:
    """Keep records in a storage in the form of ExEngine, by their coordinates: `put(coords, data, metadata)` and so on.

    It receives a copy of the coordinates, which it may change, as ExEngine's backends do.

    The storage is used as it is. It keeps data and metadata; channel, number and time of a record are not kept. Arrays
    are copied, since a storage may keep its arguments. Durability depends on the storage: `finish` is called once,
    after the last record. A run leaves it open; a handler closes it when it is closed.

    Attributes:
        storage: The storage.
    """

    takes: ClassVar[str] = "any"

    storage: Any
    _keys: dict[str, None] = attrs.field(factory=dict, init=False, eq=False, repr=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, eq=False, repr=False)
    _finished: bool = attrs.field(default=False, init=False, eq=False, repr=False)
    _closed: bool = attrs.field(default=False, init=False, eq=False, repr=False)

    def open(self) -> None:
        """Do nothing: the storage was opened when it was created."""

    def write(self, records: Sequence[Record]) -> None:
        """Put each; a StoreError names those that the storage refused."""
        failed: list[tuple[Record, BaseException]] = []
        for record in records:
            try:
                self.storage.put(DataCoordinates(record.coords), _own(record.data), dict(record.metadata))
            except Exception as error:  # a storage may raise anything: only this record fails
                failed.append((record, error))
            else:
                with self._lock:
                    self._keys[self.key_of(record)] = None
        if failed:
            first, why = failed[0]
            message = f"{self._name}: {first.coords!r}: {type(why).__name__}: {why}"
            raise StoreError(message, failed=failed) from why

    def sync(self) -> None:
        """Do nothing: a storage has no sync."""

    def finish(self) -> None:
        """Call the storage's `finish`, once. May be called repeatedly."""
        if not self._finished:
            self._finished = True
            self.storage.finish()

    def close(self) -> None:
        """Finish. The storage stays open, so that the user can read it; the user closes it."""
        self.finish()

    def close_storage(self) -> None:
        """Finish, and close the storage. May be called repeatedly."""
        if not self._closed:
            self._closed = True
            try:
                self.finish()
            finally:
                self.storage.close()

    def key_of(self, record: Record) -> str:
        """Return the coordinates as text."""
        return json.dumps(dict(sorted(record.coords.items())))

    def key_at(self, coords: Mapping[str, Any]) -> str | None:
        """Return the key of these coordinates if the storage has them, old or new."""
        key = json.dumps(dict(sorted(coords.items())))
        return key if key in self else None

    def get(self, key: str) -> Record:
        """Return data and metadata of a key, as a record. Raises ObjectNotFoundError, CannotGetObjectError."""
        coords = _coords(key)
        if coords is None:
            raise ObjectNotFoundError(f"{self._name}: {key!r} is not a key of coordinates")
        try:
            data, metadata = self.storage.get_data(coords), self.storage.get_metadata(coords)
        except Exception as error:  # whatever the storage raises
            if key in self:
                raise CannotGetObjectError(f"{self._name}: {coords!r}: {type(error).__name__}: {error}") from error
            raise ObjectNotFoundError(f"{self._name}: holds no data of {coords!r}") from error
        if data is None:
            raise ObjectNotFoundError(f"{self._name}: holds no data of {coords!r}")
        return Record(data, coords=coords, metadata=metadata or {})

    def keys(self, **coords: Any) -> Iterator[str]:
        """Yield the keys of records written here, in order; a storage cannot list older ones."""
        with self._lock:
            keys = list(self._keys)
        for key in keys:
            if not coords or (_coords(key) or DataCoordinates()).matches(coords):
                yield key

    def __contains__(self, key: object) -> bool:
        coords = _coords(key)
        if coords is None:
            return False
        if hasattr(type(self.storage), "__contains__"):
            return bool(coords in self.storage)
        with self._lock:
            return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def _name(self) -> str:
        return type(self.storage).__name__


def _coords(key: object) -> DataCoordinates | None:
    try:
        return DataCoordinates(json.loads(key))  # type: ignore[arg-type]  # it raises for invalid values
    except (TypeError, ValueError):
        return None


def _own(data: Any) -> Any:
    numpy: Any = sys.modules.get("numpy")
    return data.copy() if numpy is not None and isinstance(data, numpy.ndarray) else data
