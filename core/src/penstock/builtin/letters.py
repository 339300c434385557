"""Dead letters and record logs as components: read them, or keep records in a log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from penstock.errors import CodecError, EndOfSource, SourceError, StoreError
from penstock.record import Record

if TYPE_CHECKING:
    from penstock.recordlog import RecordLog


@attrs.define(kw_only=True)
class DeadLetterSource:
    """Read the records that failed in earlier runs, as they were when they failed.

    Attributes:
        directory: A run's dead-letter directory, or one above several.
        node: Only records that failed at this node; None: all.
    """

    directory: Path
    node: str | None = None
    _letters: Iterator[Record] | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _damaged: list[Exception] = attrs.field(factory=list, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Find the logs. Raises SourceError if there are none."""
        from penstock.dead_letters import LOG, read_dead_letters

        if not any(self.directory.rglob(LOG)):
            raise SourceError(f"{self.directory}: no dead letters ({LOG}) in or below it", retryable=False)
        self._damaged = []
        self._letters = read_dead_letters(self.directory, lambda _, error: self._damaged.append(error))

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the next dead letters.

        Raises:
            EndOfSource: there are no more dead letters.
            SourceError: all readable records were returned, and some logs or entries are damaged; it names the first.
        """
        records: list[Record] = []
        for letter in self._letters or ():
            if letter.parent is not None and self.node in (None, letter.metadata["node"]):
                records.append(letter.parent)
                if len(records) >= max_records:
                    break
        if records:
            return records
        if self._damaged:
            more = f" (and {len(self._damaged) - 1} more)" if len(self._damaged) > 1 else ""
            raise SourceError(f"some dead letters cannot be read: {self._damaged[0]}{more}", retryable=False)
        raise EndOfSource(f"{self.directory}: no more dead letters")

    def close(self) -> None:
        """Forget the logs."""
        self._letters = None


@attrs.define(kw_only=True)
class LogStore:
    """Append records to one file, each with a checksum; see `penstock.recordlog`.

    Attributes:
        path: The file. An existing file is continued; an entry that a crash left incomplete is removed first.
    """

    path: Path
    _log: RecordLog | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Open the file. Raises OSError, StoreError."""
        from penstock.recordlog import RecordLog

        self._log = RecordLog(self.path)
        self._log.open()

    def write(self, records: Sequence[Record]) -> None:
        """Append records. Raises StoreError with those that cannot be written as bytes, or none if the disk is full."""
        if self._log is None:
            raise StoreError(f"{self.path}: the store is not open")
        try:
            self._log.append(records)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror or error}") from error
        except CodecError:
            self._write_each(self._log, records)

    def _write_each(self, log: RecordLog, records: Sequence[Record]) -> None:
        failed: list[tuple[Record, BaseException]] = []
        for index, record in enumerate(records):
            try:
                log.append([record])
            except CodecError as error:
                failed.append((record, StoreError(str(error), retryable=False)))
            except OSError as error:
                failed += [(left, error) for left in records[index:]]
                break
        if failed:
            retryable = any(getattr(error, "retryable", True) for _, error in failed)
            message = f"{self.path}: {len(failed)} records not written: {failed[0][1]}"
            raise StoreError(message, failed=failed, retryable=retryable)

    def sync(self) -> None:
        """Return when all records are on the disk."""
        if self._log is not None:
            self._log.sync()

    def close(self) -> None:
        """Sync and close."""
        if self._log is not None:
            self._log.close()
            self._log = None
