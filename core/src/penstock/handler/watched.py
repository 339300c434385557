"""WatchedProcessor and WatchedStore: the user's components, with a ledger that records their results."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import msgspec

from penstock.builtin.data_storage import DataStorageStore
from penstock.coords import DataCoordinates
from penstock.error_text import failed_records, message_of, text_of
from penstock.errors import ObjectNotFoundError, StoreError
from penstock.handler.ledger import Ledger
from penstock.processor import SupportsDeadline, SupportsFlush, SupportsHeld
from penstock.read_only import frozen_value, owned_value, read_only
from penstock.record import Record
from penstock.run.edges.outlet import shared
from penstock.store import SupportsDelete, SupportsKeyAt, SupportsRead, SupportsReplace
from penstock.user_function import PARTS, adapted, form_of, of_parts, understood, works_in_place

_replace = msgspec.structs.replace
_log = logging.getLogger("penstock.handler")


@attrs.define(kw_only=True, slots=False, eq=False)
class WatchedProcessor:
    """Call a processor and report its results to the ledger. Each worker of a run has one, with its own processor.

    It has the abilities of its processor, and no others.

    Attributes:
        make: Returns the processor.
        ledger: The ledger.
        look_up: Tells the ledger whether the store holds older data of these coordinates.
    """

    make: Callable[[], Any]
    ledger: Ledger
    look_up: Callable[[DataCoordinates], None]

    def __attrs_post_init__(self) -> None:
        inner = self._inner = self.make()
        self.takes = getattr(inner, "takes", "any")
        self.gives = getattr(inner, "gives", "any")
        self.in_place = works_in_place(inner)
        self.own_identity = True  # the ledger numbers the results
        self._call = adapted(inner)
        self._kept: dict[int, Record] = {}
        self._keeps = isinstance(inner, SupportsHeld)
        self._function = inner if self.in_place and not self._keeps and form_of(inner) == PARTS else None
        if self._function is not None:
            self.in_place = False  # `_of_own_parts` makes the copies instead of the step
        for name in ("open", "close"):
            if callable(getattr(inner, name, None)):
                setattr(self, name, getattr(inner, name))
        if self._keeps:
            self.held = inner.held
        if isinstance(inner, SupportsFlush):
            self.flush = lambda: self._late(inner.flush())
        if isinstance(inner, SupportsDeadline):
            self.wait_s = inner.wait_s
            self.expire = lambda: self._late(inner.expire())

    def __call__(self, record: Record) -> Record | list[Record] | None:
        """Process a record. Raises what the processor raises, with a note that names the coordinates."""
        single: Record | None = None
        try:
            if self._function is None:
                result, is_own = self._call(record), False
            else:
                result, is_own = self._of_own_parts(record, self._function)
            if type(result) is Record and not self._keeps:  # nearly always
                if self.in_place and result.data is record.data:
                    _end_writing(result.data)
                elif not is_own:
                    result = read_only(result)
                if result.coords is not record.coords and result.coords != record.coords:
                    self.look_up(result.coords)
                single = result
            else:
                results = self._own(record, _listed(record, result))
        except BaseException as error:  # any error is raised on, even one that rejects notes
            with contextlib.suppress(BaseException):
                error.add_note(f"while processing {record.coords!r}")
            raise
        if single is not None:
            return self.ledger.processed_one(record, single)
        given = self._note_kept(record, results) if self._keeps else self.ledger.processed(record, results)
        if len(given) == 1:
            return given[0]
        return given or None

    def _of_own_parts(self, record: Record, function: Callable[..., Any]) -> tuple[Any, bool]:
        """Call a function of three arguments with data and metadata of its own.

        Returns:
            Its result, and True if that is a read-only record; otherwise the result of `adapted`.
        """
        data: Any = record.data
        numpy: Any = sys.modules.get("numpy")
        is_array = numpy is not None and type(data) is numpy.ndarray
        data = data.copy() if is_array else owned_value(data)  # arrays that were put are read-only
        metadata = owned_value(record.metadata) if record.metadata else {}
        result = function(record.coords, data, metadata)
        if type(result) is tuple and len(result) == 3:
            coords, given, known = result
            if type(coords) is DataCoordinates and type(known) is dict:
                if given is data:
                    if is_array:
                        given.setflags(False)  # numpy takes longer to read a keyword
                else:
                    given, known = frozen_value(given), frozen_value(known)
                return _replace(record, coords=coords, data=given, metadata=known), True
        return of_parts(record, result), False

    def _own(self, record: Record, results: Sequence[Record]) -> Sequence[Record]:
        """Return the results with read-only data, and look up their coordinates."""
        if self.in_place and len(results) == 1 and results[0].data is record.data:
            _end_writing(record.data)
        else:
            results = shared(results)
        for result in results:
            if result.coords != record.coords:
                self.look_up(result.coords)
        return results

    def _note_kept(self, record: Record, results: Sequence[Record]) -> list[Record]:
        held = {each.seq: each for each in self._inner.held()}
        given = self.ledger.processed(record, results, kept=record.seq in held)
        self._release(held)
        return given

    def _release(self, held: dict[int, Record]) -> None:
        """Report records that it held and released: their coordinates are among the results, or never will be."""
        for seq in self._kept.keys() - held.keys():
            self.ledger.processed(self._kept[seq], ())
        self._kept = held

    def _late(self, results: Iterable[Any]) -> list[Record]:
        given = self.ledger.late(shared([_plain(result) for result in results]))
        if self._keeps:
            self._release({each.seq: each for each in self._inner.held()})
        return given


class WatchedStore:
    """Write into a store and report its content to the ledger.

    The handler closes the store itself, and reads it until then.

    Attributes:
        inner: The store.
        stands_for: The same store, so that it cannot be used in another run meanwhile.
        reads: Whether it can be read from.
        knows_keys: Whether it finds the key of coordinates quickly.
        blocks: Whether it needs a lane of its own: not without a processor, since puts do not wait for its lane.
    """

    def __init__(self, inner: Any, ledger: Ledger) -> None:
        self.inner = self.stands_for = inner
        self.ledger = ledger
        self.takes = getattr(inner, "takes", "any")
        self.blocks = ledger.processes
        self.reads = isinstance(inner, SupportsRead)
        self.knows_keys = isinstance(inner, SupportsKeyAt)
        self._may_lose_metadata = self.reads
        self._replaces = ledger.when_exists == "replace" and self.reads
        self._can_replace = isinstance(inner, SupportsReplace)
        self._can_delete = isinstance(inner, SupportsDelete)
        self._written: set[int] = set()
        self._reported: list[Sequence[Record]] = []

    def open(self) -> None:
        """Open the store."""
        self.inner.open()

    def write(self, records: Sequence[Record]) -> None:
        """Write them; records written in a failed call are not written again when it is repeated."""
        if self._written:
            records = [record for record in records if record.seq not in self._written]
        try:
            if self._replaces:
                self._replace(records)
            else:
                self._write(records)
        except BaseException:
            self._written.update(record.seq for part in self._reported for record in part)
            raise
        else:
            self._written.clear()
        finally:
            self._reported.clear()

    def sync(self) -> None:
        """Make everything durable."""
        self.inner.sync()

    def close(self) -> None:
        """Finish a storage; the handler closes the store."""
        if isinstance(self.inner, DataStorageStore):
            self.inner.finish()

    def close_inner(self) -> None:
        """Close the store."""
        if isinstance(self.inner, DataStorageStore):
            self.inner.close_storage()
        else:
            self.inner.close()

    def free_name(self, record: Record) -> Record:
        """Return the record with the next number whose key is free in the store, if its keys contain numbers.

        A store from which records were deleted, or that some records never reached, has fewer records than numbers.
        """
        try:
            key = self.inner.key_of(record)
            while key in self.inner:
                following = record.replace(seq=record.seq + 1)
                key, before = self.inner.key_of(following), key
                if key == before:  # keys of coordinates are checked elsewhere
                    break
                record = following
        except BaseException:  # as in _key_of, which reports it
            return record
        return record

    def _write(self, records: Sequence[Record]) -> None:
        if not records:
            return
        try:
            self.inner.write(records)
        except (
            BaseException
        ) as error:  # a store may raise anything: if it names the failed records, the others were written
            failed = {id(record) for record, _ in failed_records(error) or ()}
            if failed and failed <= {id(record) for record in records}:
                self._tell([record for record in records if id(record) not in failed])
            raise
        self._tell(records)

    def _tell(self, records: Sequence[Record], keys: Sequence[str] | None = None) -> None:
        if keys is None:
            keys = self._keys_of(records)
        if self._may_lose_metadata:
            self._check_metadata(records, keys)
        self._reported.append(records)
        self.ledger.stored(records, keys)

    def _check_metadata(self, records: Sequence[Record], keys: Sequence[str]) -> None:
        """Read back the first record with metadata, while it is in memory, and report what the store does not keep."""
        for record, key in zip(records, keys, strict=True):
            if not record.metadata:
                continue
            self._may_lose_metadata = False
            try:
                kept = self.inner.get(key).metadata
            except BaseException:  # a store may raise anything: reading the record reports it
                return
            if lost := [name for name in record.metadata if name not in kept]:
                _log.warning(
                    "handler %r: the store %s does not keep metadata (%s, for one record): they are available while "
                    "data are in memory, and not from the store",
                    self.ledger.name,
                    type(self.inner).__name__,
                    ", ".join(map(repr, lost)),
                )
            return

    def _keys_of(self, records: Sequence[Record]) -> list[str]:
        if not self.reads:
            return [""] * len(records)
        try:
            keys = list(map(self.inner.key_of, records))
        except BaseException:  # as in _write; one by one, so that only those without a key are named
            return [self._key_of(record) for record in records]
        return keys if set(map(type, keys)) == {str} else [self._key_of(record) for record in records]

    def _key_of(self, record: Record) -> str:
        """Return the key of a written record; "" if the store cannot return it, which needs no retry."""
        try:
            return str(self.inner.key_of(record)) if self.reads else ""
        except BaseException as error:  # as in _write
            _log.error("the key of the data of %r is not known: %s", record.coords, text_of(error))
            return ""

    def _replace(self, records: Sequence[Record]) -> None:
        """Write new records together, and replace existing ones; in order."""
        new: list[Record] = []
        done = 0
        coords: set[DataCoordinates] = set()
        try:
            for record in records:
                if record.coords not in coords and self.ledger.key_of(record.coords) is None:
                    new.append(record)
                    coords.add(record.coords)
                    continue
                self._write(new)
                done += len(new)
                new = []
                self._put_in_place(record, self.ledger.key_of(record.coords) or "")
                done += 1
            self._write(new)
        except (
            BaseException
        ) as error:  # a store may raise anything: the error must name exactly the records not written
            failed = self._not_written(records, done, len(new), error)
            raise StoreError(message_of(error), failed=failed) from error

    def _not_written(
        self, records: Sequence[Record], done: int, tried: int, error: BaseException
    ) -> list[tuple[Record, BaseException]]:
        """Name the failed records; later ones wait, so that an older record never replaces a newer one."""
        named = {id(record): cause for record, cause in failed_records(error) or ()}
        failed: list[tuple[Record, BaseException]] = []
        for index, record in enumerate(records[done:]):
            if id(record) in named:
                failed.append((record, named[id(record)]))
            elif index >= max(tried, 1):
                failed.append(
                    (
                        record,
                        StoreError(f"{record.coords!r} waits for an earlier record that failed: {message_of(error)}"),
                    )
                )
            elif not named:
                failed.append((record, error))
        return failed

    def _put_in_place(self, record: Record, old: str) -> None:
        key = self.inner.key_of(record)
        if key == old and self._can_replace:
            try:
                self.inner.replace(old, record)
            except ObjectNotFoundError:  # it was deleted meanwhile
                self.inner.write([record])
        else:
            self.inner.write([record])
            if key != old and self._can_delete:
                with contextlib.suppress(ObjectNotFoundError):  # as above
                    self.inner.delete(old)
        self._tell([record], [key])


def _end_writing(data: Any) -> None:
    """Make the array copied for a function read-only: other nodes will hold it."""
    flags = getattr(data, "flags", None)
    if getattr(flags, "writeable", False):
        data.flags.writeable = False


def _listed(record: Record, result: Any) -> list[Record]:
    """Return what a processor returned as a list of records; the ledger numbers them."""
    meant = understood(record, result)
    if isinstance(meant, list):
        return [each if isinstance(each, Record) else record.replace(data=each) for each in meant]
    return [] if meant is None else [meant]


def _plain(result: Any) -> Record:
    if not isinstance(result, Record):
        raise TypeError(f"flush and expire returned {type(result).__name__}: they must return records")
    return result
