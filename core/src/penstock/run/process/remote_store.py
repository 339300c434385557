"""A store in a process of its own: what stands for it in the run, and what serves it there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

from penstock.codec import encode_bytes
from penstock.compose.resolve import Part
from penstock.error_text import failed_records, message_of, text_for_record
from penstock.errors import RecordExistsError, StoreError, WorkerDiedError
from penstock.link import Message
from penstock.record import Record
from penstock.record_size import weights
from penstock.report.counters import Tally
from penstock.run.context import RunContext
from penstock.run.process.served import Given
from penstock.run.process.told_error import error_of, tell_error
from penstock.run.process.workplace import Workplace
from penstock.store import SupportsRead, SupportsTransaction

_log = logging.getLogger("penstock.run")

KEPT_BYTES: Final = 256 * 2**20
"""What is kept of records that are not durable yet, about; a store that has more of them is synced at once."""
_AT_ONCE: Final = 64


class RemoteStore:
    """Stand for a store in another process.

    What was written and not synced is kept here: if the process dies, another one writes it again, so that a store
    which gathers in memory loses nothing. What the dead one may have written is looked for first, where the store can
    be read: a record that is there counts as written.
    """

    takes: ClassVar[str] = "any"

    def __init__(self, part: Part, run: RunContext, tally: Tally) -> None:
        self._place = Workplace(part, run)
        self._run = run
        self._tally = tally
        self._unsynced: list[Record] = []
        self._unsynced_bytes = 0
        self._doubtful: dict[int, Record] = {}

    def open(self) -> None:
        """Start the process, and make and open the store there."""
        self._place.open()

    def write(self, records: Sequence[Record]) -> None:
        """Have them written there. Raises what the store raises, or a StoreError that can be retried if it died."""
        try:
            self._revive()
            self._write(records)
        except WorkerDiedError as error:
            self._doubtful |= {id(record): record for record in records}
            raise StoreError(str(error)) from error
        if self._unsynced_bytes > KEPT_BYTES:
            self.sync()

    def sync(self) -> None:
        """Return when the store has synced."""
        self._durable("sync")

    def close(self) -> None:
        """Close the store, which syncs it, and end the process."""
        if not self._place.close() and self._unsynced and not self._run.aborting:
            self._durable("sync")
            self._place.close()
        self._unsynced.clear()

    def _durable(self, call: str, **words: Any) -> None:
        try:
            self._revive()
            self._place.ask(call, **words)
        except WorkerDiedError as error:
            raise StoreError(str(error)) from error
        self._forget()

    def _forget(self) -> None:
        self._unsynced.clear()
        self._unsynced_bytes = 0
        self._doubtful.clear()

    def _write(self, records: Sequence[Record]) -> None:
        again = [place for place, record in enumerate(records) if id(record) in self._doubtful]
        answer = self._place.ask("write", records, again=again)
        failed = [(records[place], error) for place, error in answer.refused.items()]
        failure = answer.words["failure"]
        error = StoreError("records cannot be sent to the store's process", retryable=False)
        if failure is not None:
            told = error_of(failure)
            named = [(records[place], error_of(each)) for place, each in answer.words["failed"]]
            if not named:
                if not failed:
                    raise told
                named = [(each, told) for place, each in enumerate(records) if place not in answer.refused]
            failed += named
            error = told if isinstance(told, StoreError) else StoreError(message_of(told))
        bad = {id(record) for record, _ in failed}
        self._keep([record for record in records if id(record) not in bad])
        if failed:
            error.failed = tuple(failed)
            raise error

    def _keep(self, records: Sequence[Record]) -> None:
        self._unsynced.extend(records)
        self._unsynced_bytes += sum(weights(records))

    def _revive(self) -> None:
        """Start another process if there is none, and have everything written again that is not durable."""
        if self._place.is_open:
            return
        self._tally.restarts += 1
        _log.warning("%s: another process is started", self._place.part.where)
        self._place.open()
        kept, self._unsynced = self._unsynced, []
        self._doubtful |= {id(record): record for record in kept}
        self._unsynced_bytes = 0
        for start in range(0, len(kept), _AT_ONCE):
            part = kept[start : start + _AT_ONCE]
            try:
                self._write(part)
            except WorkerDiedError:
                self._keep(kept[start:])
                raise
            except BaseException as error:  # they counted as stored: nothing may be committed that is not
                if self._run.aborting:
                    raise
                self._again(part, error)

    def _again(self, records: Sequence[Record], error: BaseException) -> None:
        failed = failed_records(error) or [(record, error) for record in records]
        record, cause = failed[0]
        self._run.fail(
            f"{self._place.part.where}: its process died with {len(failed)} records that were not durable, which "
            f"cannot be written again; the first is {text_for_record(record, cause)}",
            cause,
        )


class _RemoteTransaction(RemoteStore):
    """A store that keeps the positions of sources."""

    def sync_with(self, positions: Mapping[str, Any]) -> None:
        """Return when everything written and these positions are durable."""
        self._durable("sync_with", positions=dict(positions))

    def positions(self) -> Mapping[str, Any]:
        """Return the positions that it kept."""
        found: Mapping[str, Any] = self._place.ask("positions").words["positions"]
        return found


def remote_store(part: Part, run: RunContext, tally: Tally) -> RemoteStore:
    """Return what stands for a store in a process of its own, with its abilities."""
    kind = _RemoteTransaction if isinstance(part.sample, SupportsTransaction) else RemoteStore
    return kind(part, run, tally)


class ServedStore:
    """Serve a store."""

    def __init__(self, part: Part) -> None:
        self._store = part.make()

    def open(self) -> Mapping[str, Any]:
        """Open it."""
        self._store.open()
        return {}

    def calls(self) -> Mapping[str, Callable[[Message], Given]]:
        """Return what the run may ask for."""
        return {
            "write": self._write,
            "sync": self._sync,
            "sync_with": self._sync_with,
            "positions": lambda _: ({"positions": dict(self._store.positions())}, ()),
        }

    def close(self) -> None:
        """Close it."""
        self._store.close()

    def _write(self, message: Message) -> Given:
        try:
            if message.records:
                self._store.write(list(message.records))
        except BaseException as error:  # a store may raise anything; the run knows what to do
            places = {id(record): place for place, record in zip(message.places, message.records, strict=True)}
            copies = {(record.channel, record.seq): places[id(record)] for record in message.records}
            found = failed_records(error) or ()
            named = [(places.get(id(each), copies.get((each.channel, each.seq))), each, cause) for each, cause in found]
            if any(place is None for place, _, _ in named):  # of others: it says nothing of these
                named = []
            again = set(message.words["again"])
            left = [each for each in named if not (each[0] in again and self._is_there(*each[1:]))]
            if not named or left:
                failed = [(place, tell_error(cause)) for place, _, cause in left]
                return {"failure": tell_error(error), "failed": failed}, ()
        return {"failure": None}, ()

    def _is_there(self, record: Record, cause: BaseException) -> bool:
        """Tell whether the store holds this very data under the key of a record that it refused to write again."""
        if not isinstance(cause, RecordExistsError) or not isinstance(self._store, SupportsRead):
            return False
        try:
            found = self._store.get(self._store.key_of(record))
            return encode_bytes(Record(found.data)) == encode_bytes(Record(record.data))
        except BaseException:  # whatever a store raises, and whatever it gives: then it is not known to be there
            return False

    def _sync(self, _: Message) -> Given:
        self._store.sync()
        return {}, ()

    def _sync_with(self, message: Message) -> Given:
        self._store.sync_with(message.words["positions"])
        return {}, ()
