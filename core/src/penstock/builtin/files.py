"""FilesSource: the files of a directory as records; after a crash it continues with those not committed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, ClassVar

import attrs

from penstock.errors import ConfigError, EndOfSource, SourceError
from penstock.identity import named_number
from penstock.record import Record
from penstock.short_text import short
from penstock.whole_files import write_whole


def _is_pattern(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse patterns that Path.glob does not accept. Raises ConfigError."""
    if not isinstance(value, str) or not value or PurePath(value).is_absolute() or "\0" in value:
        raise ConfigError(
            f"{field.name}={short(value)}: must be a pattern of file names below the directory, "
            "as '*.raw' or '**/*.raw'"
        )


@attrs.define(kw_only=True)
class FilesSource:
    """Read the content of each matching file, in the order of their names.

    A record has the bytes of a file as data, its path below the directory as metadata `path`, the time of its last
    change, and the directory's name as channel unless `channel` is set. Its `seq` is computed from that path alone: it
    does not depend on other files. A file that is still being written is returned with its content at the time of
    reading. One that vanishes before it is read is counted as lost upstream; one that cannot be read is an error.

    Its position names the files read, so that a later run reads all others, in whatever order their names sort.

    Attributes:
        directory: The directory.
        pattern: The files, as for `Path.glob`; "**/*.raw" includes sub-directories.
        channel: The channel of all records; None: the name of the directory.
        state: A file that records which files were committed, so that a later run reads the others; it drops the names
            of removed files. None: each run starts from the beginning.
    """

    gives: ClassVar[str] = "bytes"
    exact_fields: ClassVar[bool] = True

    directory: Path
    pattern: str = attrs.field(default="*", validator=_is_pattern)
    channel: str | None = None
    state: Path | None = None
    _listed: list[str] = attrs.field(factory=list, init=False, repr=False, eq=False)
    _names: list[str] = attrs.field(factory=list, init=False, repr=False, eq=False)
    _next: int = attrs.field(default=0, init=False, repr=False, eq=False)
    _given: list[str] = attrs.field(factory=list, init=False, repr=False, eq=False)
    _lost: int = attrs.field(default=0, init=False, repr=False, eq=False)

    def open(self) -> None:
        """List the files. Raises SourceError if there is no such directory or the state file is damaged."""
        if not self.directory.is_dir():
            raise SourceError(
                f"{self.directory} is not a directory: name the one that holds the files", retryable=False
            )
        found = (path for path in self.directory.glob(self.pattern) if path.is_file())
        self._listed = sorted(path.relative_to(self.directory).as_posix() for path in found)
        self._names = self._listed
        self._next = 0
        self._given = []
        self._lost = 0
        if self.state is not None and self.state.exists():
            try:
                self.seek(json.loads(self.state.read_text("utf-8")))
            except (ValueError, KeyError, TypeError) as error:
                raise SourceError(f"{self.state}: not the state of a files source: {error}", retryable=False) from error

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the next files; those before an unreadable one are returned first.

        Raises:
            EndOfSource: there are no more files.
            OSError: the next file cannot be read.
        """
        records: list[Record] = []
        deadline = time.monotonic() + timeout_s
        while (
            self._next < len(self._names)
            and len(records) < max_records
            and (not records or time.monotonic() < deadline)
        ):
            name = self._names[self._next]
            try:
                records.append(self._read(name))
            except FileNotFoundError:
                self._lost += 1
            except OSError:
                if not records:
                    raise
                break
            else:
                self._given.append(name)
            self._next += 1
        if not records and self._next >= len(self._names):
            raise EndOfSource(f"{self.directory}: no more files")
        return records

    def _read(self, name: str) -> Record:
        path = self.directory / name
        return Record(
            path.read_bytes(),
            channel=self._channel(),
            seq=named_number(name),
            time_ns=path.stat().st_mtime_ns,
            metadata={"path": name},
        )

    def _channel(self) -> str:
        return self.directory.name if self.channel is None else self.channel

    def position(self) -> dict[str, Any]:
        """Return the names of the files read, and the last of them."""
        return {"done": self._given[-1] if self._given else "", "files": tuple(self._given)}

    def lost_upstream(self) -> Mapping[str, int]:
        """Return how many files were removed before they could be read."""
        return {self._channel(): self._lost} if self._lost else {}

    def commit(self, position: Any) -> None:
        """Write the names of the committed files into the state file, whole or not at all."""
        if self.state is None or not position["files"]:
            return
        self.state.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.state, json.dumps(position).encode())

    def seek(self, position: Any) -> None:
        """Read the files that this position does not name.

        A position of penstock 0.1.0, the name of one file, covers every file that sorts up to it.
        """
        done = position["done"] if isinstance(position, Mapping) else position
        files = position.get("files") if isinstance(position, Mapping) else None
        if not isinstance(done, str) or not (files is None or isinstance(files, (list, tuple))):
            raise TypeError(f"a position names the files that were read, and is not {position!r:.80}")
        given = {name for name in self._listed if name <= done} if files is None else set(files)
        self._given = [name for name in self._listed if name in given and name != done]
        if done in given and done in self._listed:
            self._given.append(done)
        self._names = [name for name in self._listed if name not in given]
        self._next = 0

    def close(self) -> None:
        """Forget the list."""
        self._listed = self._names = []
        self._next = 0
