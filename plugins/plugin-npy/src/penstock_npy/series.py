"""Series: the numbered files of one path in a npy-stack store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import attrs

from penstock_npy.stack_file import StackReader, StackWriter, origin_of

LEAST_SEQ: Final = -(1 << 63)


@attrs.define(eq=False)
class Series:
    """The files of one rendered path: `camera.npy`, and `camera-1.npy` … for other shapes and dtypes.

    Attributes:
        base: The path of the first file.
        channel: The channel of all frames; "" before the first.
        readers: A reader for each file, in the order of their numbers.
        writer: The writer of the last file, if this process writes to it.
        highest: The highest seq in the files.
        next_number: The number of the next file.
    """

    base: Path
    channel: str = ""
    readers: list[StackReader] = attrs.field(factory=list)
    writer: StackWriter | None = None
    highest: int = LEAST_SEQ
    next_number: int = 0

    def catch_up(self, key: str) -> None:
        """Check for new files and frames. Raises CannotGetObjectError, OSError."""
        while True:
            path = numbered(self.base, self.next_number)
            if not os.path.lexists(path):
                break
            origin = origin_of(path)
            if origin is not None and origin.get("path") == key:
                self.channel = origin["channel"]
                self.readers.append(StackReader(path))
            self.next_number += 1
        for reader in self.readers:
            reader.catch_up()
            if len(reader.seqs):
                self.highest = max(self.highest, int(reader.seqs["seq"].max()))

    def find(self, seq: int, key: str) -> tuple[StackReader, int] | None:
        """Return the place of the frame of a seq, or None. Raises CannotGetObjectError, OSError."""
        found = self._known(seq)
        if found is None:
            self.catch_up(key)
            found = self._known(seq)
        return found

    def _known(self, seq: int) -> tuple[StackReader, int] | None:
        for reader in reversed(self.readers):
            frame = reader.find(seq)
            if frame is not None:
                return reader, frame
        return None


def numbered(base: Path, number: int) -> Path:
    """Return "camera-1.npy" for "camera.npy" and 1, and the unchanged path for 0."""
    return base.with_name(f"{base.stem}-{number}{base.suffix}") if number else base
