"""FilesSource: the files of a directory as records, again after a crash from where everything was stored."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs

from penstock.errors import EndOfSource, SourceError
from penstock.record import Record


@attrs.define(kw_only=True)
class FilesSource:
    """Give the content of each file that matches, in the order of their names.

    A record has the bytes of a file as data, its path below the directory as metadata `path`, the time of its last
    change, and the directory's name as channel unless `channel` is set. A file that is written while it is read is
    given as it was.

    Attributes:
        directory: Where to look.
        pattern: Which files, as for `Path.glob`; "**/*.raw" looks into sub-directories.
        channel: The channel of all records; None: the name of the directory.
        state: A file that remembers what was committed, so that a later run goes on behind it; None: each run begins
            anew.
    """

    gives: ClassVar[str] = "bytes"

    directory: Path
    pattern: str = "*"
    channel: str | None = None
    state: Path | None = None
    _names: list[str] = attrs.field(factory=list, init=False, repr=False, eq=False)
    _next: int = attrs.field(default=0, init=False, repr=False, eq=False)
    _last: str = attrs.field(default="", init=False, repr=False, eq=False)

    def open(self) -> None:
        """List the files. Raises SourceError if there is no such directory or the state file is damaged."""
        if not self.directory.is_dir():
            raise SourceError(f"{self.directory} is no directory: name one that holds the files", retryable=False)
        found = (path for path in self.directory.glob(self.pattern) if path.is_file())
        self._names = sorted(path.relative_to(self.directory).as_posix() for path in found)
        self._next = 0
        self._last = ""
        if self.state is not None and self.state.exists():
            try:
                self.seek(json.loads(self.state.read_text("utf-8"))["done"])
            except (ValueError, KeyError, TypeError) as error:
                raise SourceError(f"{self.state}: not the state of a files source: {error}", retryable=False) from error

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the next files. Raises EndOfSource behind the last, OSError for one that cannot be read."""
        if self._next >= len(self._names):
            raise EndOfSource(f"{self.directory}: no more files")
        records: list[Record] = []
        deadline = time.monotonic() + timeout_s
        while (
            self._next < len(self._names)
            and len(records) < max_records
            and (not records or time.monotonic() < deadline)
        ):
            records.append(self._read(self._names[self._next]))
            self._last = self._names[self._next]
            self._next += 1
        return records

    def _read(self, name: str) -> Record:
        path = self.directory / name
        return Record(
            path.read_bytes(),
            channel=self.directory.name if self.channel is None else self.channel,
            seq=self._next,
            time_ns=path.stat().st_mtime_ns,
            metadata={"path": name},
        )

    def position(self) -> str:
        """Return the name of the last file given."""
        return self._last

    def commit(self, position: Any) -> None:
        """Write the name of the last file that is safe into the state file, whole or not at all."""
        if self.state is None or not position:
            return
        self.state.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.state.with_name(f".{self.state.name}.{os.getpid()}")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"done": position}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.state)

    def seek(self, position: Any) -> None:
        """Go on behind this file; files whose names come before it are taken as done."""
        if not isinstance(position, str):
            raise TypeError(f"a position is the name of a file, not {position!r}")
        self._next = sum(name <= position for name in self._names)
        self._last = position

    def close(self) -> None:
        """Forget the list."""
        self._names = []
