"""WorkerStore: runs a store in its worker process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from penstock.codec import encode_bytes
from penstock.compose.resolve import ResolvedNode
from penstock.error_text import failed_records
from penstock.errors import RecordExistsError
from penstock.link import Message
from penstock.record import Record
from penstock.run.process.error_data import error_to_data
from penstock.run.process.messages import Reply
from penstock.store import SupportsRead


class WorkerStore:
    """Serve a store."""

    def __init__(self, resolved: ResolvedNode) -> None:
        self._store = resolved.make()

    def open(self) -> Mapping[str, Any]:
        """Make and open the store."""
        self._store.open()
        return {}

    def calls(self) -> Mapping[str, Callable[[Message], Reply]]:
        """Return the calls that the run may make, by name."""
        return {
            "write": self._write,
            "sync": self._sync,
            "sync_with": self._sync_with,
            "positions": lambda _: ({"positions": dict(self._store.positions())}, ()),
        }

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def last_words(self) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    def _write(self, message: Message) -> Reply:
        try:
            if message.records:
                self._store.write(list(message.records))
        except BaseException as error:  # a store may raise anything; the run decides what to do
            places = {id(record): place for place, record in zip(message.places, message.records, strict=True)}
            copies = {(record.channel, record.seq): places[id(record)] for record in message.records}
            found = failed_records(error) or ()
            named = [(places.get(id(each), copies.get((each.channel, each.seq))), each, cause) for each, cause in found]
            if any(
                place is None for place, _, _ in named
            ):  # it names other records, so that it is unknown which of these were written
                named = []
            again = set(message.words["again"])
            left = [each for each in named if not (each[0] in again and self._is_there(*each[1:]))]
            if not named or left:
                failed = [(place, error_to_data(cause)) for place, _, cause in left]
                return {"failure": error_to_data(error), "failed": failed}, ()
        return {"failure": None}, ()

    def _is_there(self, record: Record, cause: BaseException) -> bool:
        """Return whether the store holds the same data under the key of a record that it refused to write again."""
        if not isinstance(cause, RecordExistsError) or not isinstance(self._store, SupportsRead):
            return False
        try:
            found = self._store.get(self._store.key_of(record))
            return encode_bytes(Record(found.data)) == encode_bytes(Record(record.data))
        except BaseException:  # a store may raise or return anything: then the record is not known to be there
            return False

    def _sync(self, _: Message) -> Reply:
        self._store.sync()
        return {}, ()

    def _sync_with(self, message: Message) -> Reply:
        self._store.sync_with(message.words["positions"])
        return {}, ()
