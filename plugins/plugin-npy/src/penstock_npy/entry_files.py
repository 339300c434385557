"""The entries of a DataLogger as one `.npy` file each, as ataraxis-data-structures documents it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy

from penstock_npy.files import FileWriter
from penstock_npy.npy_format import npy_buffers
from penstock_npy.numbering import Numbering
from penstock_npy.segment import HEAD

NAME = re.compile(r"(\d{3})_(\d{20})(?:-(\d+))?\Z")
"""The stem of a file: source id, time, and a number if several entries have the same of both."""


def entry_stem(source: int, time: int, number: int = 0) -> str:
    """Return the stem of an entry's file."""
    return f"{source:03d}_{time:020d}" + (f"-{number}" if number else "")


def entry_array(source: int, time: int, payload: bytes | memoryview) -> numpy.ndarray[Any, numpy.dtype[numpy.uint8]]:
    """Return the content of an entry's file: (9 + n,) uint8: source id, time as 8 bytes little-endian, payload."""
    return numpy.frombuffer(b"".join((bytes((source,)), time.to_bytes(8, "little"), payload)), numpy.uint8)


@attrs.define
class EntryFiles:
    """Write each entry as a file.

    Attributes:
        directory: Where to.
        left: After an error of `write`, the entries that were not written.
    """

    directory: Path
    left: list[Any] = attrs.field(factory=list, init=False)
    _writer: FileWriter = attrs.field(factory=FileWriter, init=False)
    _numbering: Numbering = attrs.field(factory=Numbering, init=False)

    def write(self, entries: Sequence[tuple[int, int, memoryview]]) -> None:
        """Write entries, with their heads. Raises OSError; see `left`."""
        for index, (source, time, entry) in enumerate(entries):
            size = HEAD.unpack_from(entry)[3]
            buffers = npy_buffers(entry_array(source, time, entry[HEAD.size : HEAD.size + size]))
            wanted = path = self.directory / f"{entry_stem(source, time)}.npy"
            try:
                while True:
                    try:
                        self._writer.write(path, buffers, "error")
                        break
                    except FileExistsError:
                        path = self._numbering.free(wanted)
            except OSError:
                self.left = list(entries[index:])
                raise
        self.left = []

    def sync(self) -> None:
        """Make everything durable."""
        self._writer.sync()

    def close(self) -> None:
        """Sync, and close."""
        try:
            self.sync()
        finally:
            self._writer.close()
