"""MemoryStore and NullStore: keep records in this process, or nowhere."""

from __future__ import annotations

import contextlib
import fnmatch
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import ObjectNotFoundError, RecordExistsError, StoreError
from penstock.record import Record
from penstock.validators import at_least, one_of, or_none


def _is_template(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
    from penstock.templates import is_template  # imported here: most have no template

    is_template(instance, field, value)


@attrs.define(kw_only=True, getstate_setstate=False)
class MemoryStore:
    """Keep records in a dict, by "channel/seq" unless `key` is set. Thread-safe.

    Lost with the process; pickling keeps the settings only. Records are copied when written and read.

    Attributes:
        key: A template for the key; see `penstock.templates`.
        capacity: The most records that it holds; more are refused with a StoreError, none is evicted. None: no limit.
        when_exists: The action for a record whose key is taken: "error", "replace" or "skip".
    """

    takes: ClassVar[str] = "any"
    blocks: ClassVar[bool] = False
    in_memory: ClassVar[bool] = True

    key: str | None = attrs.field(default=None, validator=or_none(_is_template))
    capacity: int | None = attrs.field(default=None, validator=or_none(at_least(1)))
    when_exists: Literal["error", "replace", "skip"] = attrs.field(
        default="error", validator=one_of("error", "replace", "skip")
    )
    _records: dict[str, Record] = attrs.field(factory=dict, init=False, eq=False, repr=False)
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False, eq=False, repr=False)
    _watchers: list[Callable[[str], None]] = attrs.field(factory=list, init=False, eq=False, repr=False)
    _render: Callable[[Record], str] | None = attrs.field(default=None, init=False, eq=False, repr=False)

    def open(self) -> None:
        """Compile the template."""
        if self.key is not None:
            from penstock.templates import Template

            self._render = Template(self.key).render

    def write(self, records: Sequence[Record]) -> None:
        """Keep them, with a copy of each array. Raises StoreError, which names those not kept."""
        failed: list[tuple[Record, BaseException]] = []
        new_keys: list[str] = []
        with self._lock:
            for record in records:
                try:
                    key = self.key_of(record)
                    if self._admit(key):
                        self._records[key] = own(record)
                        new_keys.append(key)
                except (StoreError, ValueError) as error:
                    failed.append((record, error))
        for key in new_keys:
            for watcher in list(self._watchers):
                watcher(key)
        if failed:
            kind = RecordExistsError if all(isinstance(error, RecordExistsError) for _, error in failed) else StoreError
            retryable = any(isinstance(error, StoreError) and error.retryable for _, error in failed)
            raise kind(f"{len(failed)} records not kept: {failed[0][1]}", failed=failed, retryable=retryable)

    def _admit(self, key: str) -> bool:
        if key in self._records:
            if self.when_exists == "error":
                raise RecordExistsError(f"record {key!r} already exists: use what differs between records in `key`")
            return self.when_exists == "replace"
        if self.capacity is not None and len(self._records) >= self.capacity:
            raise StoreError(f"the store is full: its capacity is {self.capacity} records")
        return True

    def sync(self) -> None:
        """Do nothing: memory is never durable."""

    def close(self) -> None:
        """Do nothing: the records can still be read."""

    def key_of(self, record: Record) -> str:
        """Return the key of a record."""
        return self._render(record) if self._render else f"{record.channel}/{record.seq}"

    def get(self, key: str) -> Record:
        """Return a record. Raises ObjectNotFoundError."""
        try:
            return own(self._records[key])
        except KeyError:
            raise ObjectNotFoundError(f"no record {key!r} among {len(self._records)}") from None

    def keys(self, **coords: Any) -> Iterator[str]:
        """Yield the keys in the order of writing, or those whose coordinates match."""
        with self._lock:
            found = list(self._records.items())
        for key, record in found:
            if not coords or record.coords.matches(coords):
                yield key

    def delete(self, key: str) -> None:
        """Delete a record. Raises ObjectNotFoundError."""
        with self._lock:
            self.get(key)
            del self._records[key]

    def replace(self, key: str, record: Record) -> None:
        """Replace a record. Raises ObjectNotFoundError."""
        with self._lock:
            self.get(key)
            self._records[key] = own(record)

    @checks_arguments
    def subscribe(self, callback: Callable[[str], None], pattern: str = "*", **coords: Any) -> Callable[[], None]:
        """Call `callback` with each new key that matches; return a function that ends it."""

        def watcher(key: str) -> None:
            record = self._records.get(key)  # None: deleted since
            if fnmatch.fnmatchcase(key, pattern) and record is not None and record.coords.matches(coords):
                callback(key)

        self._watchers.append(watcher)

        def end() -> None:
            with contextlib.suppress(ValueError):  # already ended
                self._watchers.remove(watcher)

        return end

    def __getstate__(self) -> dict[str, Any]:
        return {"key": self.key, "capacity": self.capacity, "when_exists": self.when_exists}

    def __setstate__(self, state: dict[str, Any]) -> None:
        MemoryStore.__init__(self, **state)

    def __contains__(self, key: object) -> bool:
        return key in self._records

    def __len__(self) -> int:
        return len(self._records)


@attrs.define(kw_only=True)
class NullStore:
    """Discard all records: for trials, and to measure the nodes before it."""

    takes: ClassVar[str] = "any"
    blocks: ClassVar[bool] = False

    def open(self) -> None:
        """Do nothing."""

    def write(self, records: Sequence[Record]) -> None:
        """Forget them."""

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def own(record: Record) -> Record:
    """Return the record with private copies of data and metadata."""
    data = record.data
    if isinstance(data, bytearray):
        data = bytes(data)
    elif hasattr(data, "__array_interface__") and hasattr(data, "copy"):
        data = data.copy()
    return record.replace(data=data, metadata=dict(record.metadata))
