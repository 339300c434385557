"""DeadLetters: where a run keeps the records that failed for good, with what happened to them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import CodecError
from penstock.record import Record

if TYPE_CHECKING:
    from penstock.compose.resolve import Part
    from penstock.recordlog import RecordLog

LOG = "records.log"
_LONGEST_TRACEBACK = 20_000


class DeadLetters:
    """Keep dead letters in `<directory>/<run>-<time>-<process id>/records.log`; made with the first. Any thread.

    An entry is a record whose `parent` is the one that failed, and whose metadata say where, when, why and after how
    many tries. Durable after `sync`, which every checkpoint calls before it commits.
    """

    def __init__(self, directory: Path, run: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self.path = directory / f"{_safe(run)}-{stamp}-{os.getpid()}"
        self.count = 0
        self._log: RecordLog | None = None
        self._lock = threading.Lock()

    def put(self, part: Part, record: Record, error: BaseException, tries: int) -> None:
        """Keep one. Raises OSError if that is not possible: the record is lost then."""
        letter = _letter(part, record, error, tries)
        with self._lock:
            if self._log is None:
                self._log = self._opened()
            try:
                self._log.append([letter])
            except CodecError as reason:
                self._log.append([letter.replace(parent=_described(record, reason))])
            self.count += 1

    def _opened(self) -> RecordLog:
        from penstock.recordlog import RecordLog

        number, name = 1, self.path.name
        while self.path.exists():
            number += 1
            self.path = self.path.with_name(f"{name}-{number}")
        log = RecordLog(self.path / LOG)
        try:
            log.open()
        except BaseException:
            with contextlib.suppress(OSError):  # that it was made at all; the next letter tries again
                self.path.rmdir()
            raise
        return log

    def sync(self) -> None:
        """Return when all are on the disk."""
        with self._lock:
            if self._log is not None:
                self._log.sync()

    def close(self) -> None:
        """Sync and close."""
        with self._lock:
            if self._log is not None:
                self._log.close()
                self._log = None


def read_dead_letters(directory: Path) -> Iterator[Record]:
    """Yield the dead letters below a directory, oldest run first; the record that failed is the `parent` of each."""
    from penstock.recordlog import read_log

    for path in sorted(directory.rglob(LOG)):
        for _, letter in read_log(path):
            yield letter


def _letter(part: Part, record: Record, error: BaseException, tries: int) -> Record:
    trace = "".join(traceback.format_exception(error))
    return Record(
        None,
        channel=record.channel,
        seq=record.seq,
        time_ns=time.time_ns(),
        metadata={
            "node": part.node.name,
            "component": part.origin,
            "error": f"{type(error).__module__}.{type(error).__qualname__}",
            "message": str(error),
            "traceback": trace[-_LONGEST_TRACEBACK:],
            "tries": tries,
        },
        parent=record.replace(parent=None),
    )


def _described(record: Record, reason: CodecError) -> Record:
    """Return what can be kept of a record that no codec can write: everything but the data, which are described."""
    metadata: dict[str, Any] = {"not_kept": str(reason)}
    for key, value in record.metadata.items():
        metadata[str(key)] = value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)[:1000]
    return record.replace(data=repr(record.data)[:1000], metadata=metadata, parent=None)


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).lstrip(".") or "run"
