"""The state of a source of files: the number of each file, and the committed position.

A file of lines of JSON. The first names the format; {"n": 17, "file": "a/b.npy"} is the number of a file, and the last
{"next": 18, "parts": {…}} is the committed position. Lines are only added; a torn one at the end is cut off, and a file
with mostly obsolete lines is rewritten when it is opened.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs

from penstock.errors import SourceError
from penstock_npy.pair_lock import lock_exclusively

_FORMAT = "penstock-npy files 1"
_FEW_LINES = 1000


@attrs.define(eq=False)
class Journal:
    """Keep the numbers of files, and a position. One source at a time.

    Attributes:
        path: The file.
        names: The number of each file.
        next: The number of the first file that is not fully committed.
        parts: For files with several records, the committed parts and bytes.
    """

    path: Path
    names: dict[str, int] = attrs.field(factory=dict, init=False)
    next: int = attrs.field(default=0, init=False)
    parts: dict[str, list[int]] = attrs.field(factory=dict, init=False)
    _fd: int = attrs.field(default=-1, init=False)
    _lines: int = attrs.field(default=0, init=False)

    def open(self) -> None:
        """Read the state.

        Raises:
            SourceError: the file is something else, or damaged.
            StoreError: another source uses it.
            OSError: it cannot be read or written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        lock_exclusively(self._fd, self.path)
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        try:
            lines = [json.loads(text) for text in content[:end].splitlines()]
            if (lines and lines[0].get("format") != _FORMAT) or (content and not lines):
                raise ValueError("its first line is another")
            for line in lines[1:]:
                self._take(line)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SourceError(
                f"{self.path}: not the state of a source of files: {error}; remove it to start over", retryable=False
            ) from error
        self._lines = len(lines)
        if end < len(content):
            os.ftruncate(self._fd, end)
        if not lines:
            self._append([{"format": _FORMAT}])

    def _take(self, line: Mapping[str, Any]) -> None:
        if "file" in line:
            self.names[str(line["file"])] = int(line["n"])
        else:
            self.next = int(line["next"])
            self.parts.update({str(name): [int(part), int(at)] for name, (part, at) in line["parts"].items()})

    @property
    def count(self) -> int:
        """The number for the next file."""
        return max(self.next, max(self.names.values(), default=-1) + 1)

    def forget_gone(self, there: Collection[str]) -> None:
        """Rewrite the file without committed files that are gone, if most of its lines are obsolete.

        If there are no files at all, nothing is forgotten, since an unmounted disk looks the same.
        """
        gone = [name for name in self.names.keys() - set(there) if self.names[name] < self.next]
        if not there or self._lines <= 2 * (len(self.names) - len(gone)) + _FEW_LINES:
            return
        for name in gone:
            del self.names[name]
            self.parts.pop(name, None)
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        old, self._fd = self._fd, os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            lock_exclusively(self._fd, temporary)
            self._append(
                [
                    {"format": _FORMAT},
                    *({"n": number, "file": name} for name, number in self.names.items()),
                    {"next": self.next, "parts": self.parts},
                ]
            )
            temporary.replace(self.path)
        finally:
            os.close(old)
        self._lines = len(self.names) + 2

    def number(self, names: Mapping[str, int]) -> None:
        """Note the numbers of files, durably. Raises OSError."""
        self.names.update(names)
        self._append([{"n": number, "file": name} for name, number in names.items()])

    def commit(self, next_number: int, parts: Mapping[str, list[int]]) -> None:
        """Note the committed position, durably. Raises OSError."""
        changed = {name: place for name, place in parts.items() if self.parts.get(name) != place}
        if next_number == self.next and not changed:
            return
        self._append([{"next": next_number, "parts": changed}])
        self.next = next_number
        self.parts.update(changed)

    def _append(self, lines: list[dict[str, Any]]) -> None:
        size = os.fstat(self._fd).st_size
        rest = memoryview("".join(f"{json.dumps(line)}\n" for line in lines).encode("ascii"))
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, size)
            raise
        self._lines += len(lines)

    def close(self) -> None:
        """Close the file, any number of times."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self.names, self.parts, self.next = {}, {}, 0
