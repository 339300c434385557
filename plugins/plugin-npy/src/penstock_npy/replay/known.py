"""The fields of a file beyond its content: from the index of its archive, its sidecar, or its name."""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from penstock.coords import DataCoordinates
from penstock.identity import part_number
from penstock_npy.folder import SIDECAR
from penstock_npy.index import DIRECTORY, FORMAT, Index, fields_of, file_id, lines_of
from penstock_npy.replay.selection import Selection, printable
from penstock_npy.store import SPLIT_INDEX


@attrs.define(eq=False)
class Known:
    """Look up the fields of records.

    Attributes:
        selection: The files.
        index: The index of the archive that they belong to, if it has one: of the root or of a directory above.
    """

    selection: Selection
    index: Index | None
    _below: str = ""
    _of_lines: dict[str, list[Path]] | None = None

    @classmethod
    def of(cls, selection: Selection) -> Known:
        """Return the fields of these files."""
        root = Path(os.path.abspath(selection.root))
        found = next((above for above in (root, *root.parents) if _has_index(above)), None)
        if found is None:
            return cls(selection, None)
        below = root.relative_to(found).as_posix()
        return cls(selection, Index(found), "" if below == "." else f"{below}/")

    def close(self) -> None:
        """Close the open files, any number of times."""
        if self.index is not None:
            self.index.close()

    def of_file(self, name: str, status: os.stat_result) -> dict[str, Any] | None:
        """Return the fields of the record of a file, or None if only its name has any.

        Raises:
            ValueError: its line or its sidecar is damaged.
            OSError: its sidecar cannot be read.
        """
        line = None
        if self.index is not None:
            line = self.index.find(self._indexed(name), file_id(status))
        if line is None and name.endswith(".npy"):
            try:
                line = json.loads((self.selection.root / (name + SIDECAR)).read_bytes())
            except FileNotFoundError:
                return None
        return None if line is None else _apart(fields_of(line))

    def of_lines(self, name: str, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the offset and the fields of each line of a `.jsonl` in the index, from a byte on."""
        if self.index is None:
            return
        if self._of_lines is None:
            self._of_lines = _files_of_lines(self.index)
        key = f"{self._indexed(name)}#"

        def of(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
            for path, (offset, size), line in lines_of(file):
                if path.startswith(key) and size >= 0 and offset >= start:
                    yield offset, line

        files = self._of_lines.get(key, ())
        yield from heapq.merge(*map(of, files), key=lambda found: found[0])

    def forget_lines(self) -> None:
        """Forget the assignment of index files to `.jsonl` files: some have grown."""
        self._of_lines = None

    def from_name(self, name: str) -> dict[str, Any]:
        """Return the fields of a record from the name; its metadata have the name itself as `path`."""
        fields = self.selection.from_name(name)
        metadata = {"path": printable(name), **fields.get("metadata", {})}
        return {**fields, "metadata": metadata, "coords": DataCoordinates(fields.get("coords", {}))}

    def _indexed(self, name: str) -> str:
        """Return the name of a file below the root of the index."""
        return self._below + name


def _apart(fields: dict[str, Any]) -> dict[str, Any]:
    """Number each sub-array of a record that was split."""
    part = fields["metadata"].get(SPLIT_INDEX)
    if isinstance(part, int):
        fields["seq"] = part_number(fields["channel"], fields["seq"], part)
    return fields


def _has_index(directory: Path) -> bool:
    for file in sorted((directory / DIRECTORY).glob("*.jsonl")):
        try:
            with file.open("rb") as opened:
                return FORMAT.encode("ascii") in opened.readline(65536)
        except OSError:
            continue
    return False


def _files_of_lines(index: Index) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in index.files():
        keys = {path[: path.rfind("#") + 1] for path, _, _ in lines_of(file)}
        for key in keys:
            found.setdefault(key, []).append(file)
    return found
