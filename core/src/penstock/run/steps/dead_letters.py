"""DeadLetters: the file in which a run keeps the records that failed for good, with their errors."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.dead_letters import LOG
from penstock.error_text import class_path, message_of, remedy_for, trace_of
from penstock.errors import CodecError
from penstock.fields import readable
from penstock.record import Record

if TYPE_CHECKING:
    from penstock.compose.resolve import ResolvedNode
    from penstock.recordlog import RecordLog


class DeadLetters:
    """Keep dead letters in `<directory>/<run>-<time>-<process id>/records.log`; made with the first. Any thread.

    An entry is a record whose `parent` is the failed record, and whose metadata say where, when, why and after how
    many tries it failed. If a record cannot be written as bytes, as much as possible of it is kept (see
    `penstock.run.steps.salvage`). Durable after `sync`, which every checkpoint calls before it commits.
    """

    def __init__(self, directory: Path, run: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self.path = directory / f"{_safe(run)}-{stamp}-{os.getpid()}"
        self.count = 0
        self._log: RecordLog | None = None
        self._lock = threading.Lock()

    def put(self, resolved: ResolvedNode, record: Record, error: BaseException, tries: int) -> None:
        """Keep a record. Raises OSError if that is not possible: the record is lost then."""
        letter = _letter(resolved, record, error, tries)
        with self._lock:
            if self._log is None:
                self._log = self._opened()
            try:
                self._log.append([letter])
            except CodecError as reason:
                from penstock.run.steps.salvage import salvaged

                self._log.append([letter.replace(parent=salvaged(record, reason))])
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
            with contextlib.suppress(OSError):  # if it was made at all; the next letter tries again
                self.path.rmdir()
            raise
        return log

    def sync(self) -> None:
        """Return when all letters are on the disk."""
        with self._lock:
            if self._log is not None:
                self._log.sync()

    def close(self) -> None:
        """Sync and close."""
        with self._lock:
            if self._log is not None:
                self._log.close()
                self._log = None


def _letter(resolved: ResolvedNode, record: Record, error: BaseException, tries: int) -> Record:
    named, _ = readable(record)
    return Record(
        None,
        channel=named.channel,
        seq=named.seq,
        time_ns=time.time_ns(),
        metadata={
            "node": resolved.node.name,
            "component": resolved.origin,
            "error": class_path(error),
            "message": message_of(error) + remedy_for(record, error),
            "traceback": trace_of(error),
            "tries": tries,
        },
        parent=record.replace(parent=None),
    )


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).lstrip(".") or "run"
