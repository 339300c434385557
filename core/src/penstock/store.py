"""The contract of a store, and its optional abilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from penstock.record import Record

Key = str
"""The identity of a record in a store: unique in it, in the store's own form (a path, a template's result)."""


@runtime_checkable
class Store(Protocol):
    """Keep records.

    An attrs class whose init fields are its settings; building one does nothing. A run calls `open` once, `write`
    and `sync` from one thread, then `close`.
    """

    takes: ClassVar[str] = "any"
    """The data it can keep: "bytes", "array", "mapping" or "any"."""

    def open(self) -> None:
        """Acquire external resources. Raises CannotConnectToStoreError, StoreError or OSError, and then holds none."""
        ...

    def write(self, records: Sequence[Record]) -> None:
        """Write all of them, or raise a StoreError whose `failed` names those that were not written.

        Afterwards the store refers to no data of the caller: arrays may be changed. A record is complete or absent,
        even after a crash; it is durable only after `sync`.
        """
        ...

    def sync(self) -> None:
        """Return when everything written is durable: it survives `kill -9` and, if the medium can, a power failure."""
        ...

    def close(self) -> None:
        """Sync and release resources. May be called repeatedly, and after a failed `open`."""
        ...


@runtime_checkable
class SupportsRead(Protocol):
    """A store that can be read: from any thread, also while another one writes."""

    def key_of(self, record: Record) -> Key:
        """Return the key under which this record is, or would be, stored."""
        ...

    def get(self, key: Key) -> Record:
        """Return the record of this key. Raises ObjectNotFoundError, or CannotGetObjectError if it is damaged."""
        ...

    def keys(self, **coords: Any) -> Iterator[Key]:
        """Yield the keys of all records, or of those whose coordinates match; in the order of time, or of the keys."""
        ...

    def __contains__(self, key: object) -> bool: ...

    def __len__(self) -> int: ...


@runtime_checkable
class SupportsKeyAt(Protocol):
    """A store that keeps one record for each DataCoordinates, and finds it quickly."""

    def key_at(self, coords: Mapping[str, Any]) -> Key | None:
        """Return the key of the record with these coordinates; None if there is none. From any thread."""
        ...


@runtime_checkable
class SupportsDelete(Protocol):
    """A store that can delete records."""

    def delete(self, key: Key) -> None:
        """Remove the record of this key. Raises ObjectNotFoundError."""
        ...


@runtime_checkable
class SupportsReplace(Protocol):
    """A store that can change a record."""

    def replace(self, key: Key, record: Record) -> None:
        """Replace the record of this key, completely or not at all. Raises ObjectNotFoundError."""
        ...


@runtime_checkable
class SupportsSubscribe(Protocol):
    """A store that notifies subscribers of new records."""

    def subscribe(self, callback: Callable[[Key], None], pattern: str = "*", **coords: Any) -> Callable[[], None]:
        """Call `callback` with the key of each new record that matches; return a function that ends it.

        `pattern` is one of `fnmatch` for the key. Earlier records are not reported. Ending it again does nothing.
        """
        ...


@runtime_checkable
class SupportsTransaction(Protocol):
    """A store that keeps the sources' positions in the same transaction as the records before them."""

    def sync_with(self, positions: Mapping[str, Any]) -> None:
        """Make everything written and these positions (by node name) durable, both or neither."""
        ...

    def positions(self) -> Mapping[str, Any]:
        """Return the positions of the last `sync_with`, or an empty mapping."""
        ...


@runtime_checkable
class SupportsStoreLink(Protocol):
    """A store class that can be the near end of a link to another process, whose far end is a source of its name."""

    @classmethod
    def for_link(cls, name: str) -> Store:
        """Return a store that passes records, in order and without loss, to the source `for_link` of this name.

        It waits neither for a source that has not opened, nor for one whose process has died.
        """
        ...
