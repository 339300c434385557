"""RemoteStore: the proxy of a store that works in a process of its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from penstock.compose.resolve import ResolvedNode
from penstock.error_text import failed_records, message_of, text_for_record
from penstock.errors import StoreError, WorkerDiedError
from penstock.record import Record
from penstock.record_size import total_bytes
from penstock.report.counters import Counters
from penstock.run.context import RunContext
from penstock.run.process.asking.worker_process import WorkerProcess
from penstock.run.process.error_data import error_from_data
from penstock.store import SupportsTransaction

_log = logging.getLogger("penstock.run")

KEPT_BYTES: Final = 256 * 2**20
"""The most bytes of records that are kept until they are durable, about; a store that has more is synced at once."""
_AT_ONCE: Final = 64


class RemoteStore:
    """The proxy of a store in another process.

    Records that were written and not synced are kept here: if the process dies, another one writes them again, so that
    a store that buffers in memory loses nothing. If the store can be read, records that the dead process may have
    written are looked up first: a record that is found counts as written.
    """

    takes: ClassVar[str] = "any"

    def __init__(self, resolved: ResolvedNode, run: RunContext, counters: Counters) -> None:
        self._worker = WorkerProcess(resolved, run)
        self._run = run
        self._counters = counters
        self._unsynced: list[Record] = []
        self._unsynced_bytes = 0
        self._doubtful: dict[int, Record] = {}

    def open(self) -> None:
        """Start the process, and make and open the store there."""
        self._worker.open()

    def write(self, records: Sequence[Record]) -> None:
        """Write records in the process. Raises what the store raises, or a retryable StoreError if the process died."""
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
        if not self._worker.close() and self._unsynced and not self._run.aborting:
            self._durable("sync")
            self._worker.close()
        self._unsynced.clear()

    def _durable(self, call: str, **words: Any) -> None:
        try:
            self._revive()
            self._worker.ask(call, **words)
        except WorkerDiedError as error:
            raise StoreError(str(error)) from error
        self._forget()

    def _forget(self) -> None:
        self._unsynced.clear()
        self._unsynced_bytes = 0
        self._doubtful.clear()

    def _write(self, records: Sequence[Record]) -> None:
        again = [place for place, record in enumerate(records) if id(record) in self._doubtful]
        answer = self._worker.ask("write", records, again=again)
        failed = [(records[place], error) for place, error in answer.refused.items()]
        failure = answer.words["failure"]
        error = StoreError("records cannot be sent to the store's process", retryable=False)
        if failure is not None:
            cause = error_from_data(failure)
            named = [(records[place], error_from_data(each)) for place, each in answer.words["failed"]]
            if not named:
                if not failed:
                    raise cause
                named = [(each, cause) for place, each in enumerate(records) if place not in answer.refused]
            failed += named
            error = cause if isinstance(cause, StoreError) else StoreError(message_of(cause))
        bad = {id(record) for record, _ in failed}
        self._keep([record for record in records if id(record) not in bad])
        if failed:
            error.failed = tuple(failed)
            raise error

    def _keep(self, records: Sequence[Record]) -> None:
        self._unsynced.extend(records)
        self._unsynced_bytes += total_bytes(records)

    def _revive(self) -> None:
        """Start another process if there is none, and write all records again that are not durable."""
        if self._worker.is_open:
            return
        self._counters.restarts += 1
        _log.warning("%s: another process is started", self._worker.resolved.where)
        self._worker.open()
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
            except BaseException as error:  # they counted as stored, so nothing may be committed now
                if self._run.aborting:
                    raise
                self._again(part, error)

    def _again(self, records: Sequence[Record], error: BaseException) -> None:
        failed = failed_records(error) or [(record, error) for record in records]
        record, cause = failed[0]
        self._run.fail(
            f"{self._worker.resolved.where}: its process died; {len(failed)} records were not durable and "
            f"cannot be written again; the first is {text_for_record(record, cause)}",
            cause,
        )


class _RemoteTransaction(RemoteStore):
    """A store that keeps the positions of sources."""

    def sync_with(self, positions: Mapping[str, Any]) -> None:
        """Return when everything written and these positions are durable."""
        self._durable("sync_with", positions=dict(positions))

    def positions(self) -> Mapping[str, Any]:
        """Return the positions that the store kept."""
        found: Mapping[str, Any] = self._worker.ask("positions").words["positions"]
        return found


def remote_store(resolved: ResolvedNode, run: RunContext, counters: Counters) -> RemoteStore:
    """Return the proxy of a store in a process of its own, with its abilities."""
    kind = _RemoteTransaction if isinstance(resolved.sample, SupportsTransaction) else RemoteStore
    return kind(resolved, run, counters)
