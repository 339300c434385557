"""The records of one file: one of a .npy, .npz or .json, one of each line of a .jsonl and of each frame of a stack."""

from __future__ import annotations

import io
import json
import lzma
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import attrs
from numpy.lib import format as npy

from penstock.errors import CannotGetObjectError
from penstock_npy.growing_array import GrowingArray
from penstock_npy.npy_format import read_array, whole_array
from penstock_npy.stack_file import StackReader, origin_of

DAMAGED = (
    *(ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, EOFError, MemoryError, RuntimeError),
    *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, CannotGetObjectError),
)
"""The errors of reading a file whose content does not match its name. Never an error of the system."""
_FIELDS = ("channel", "seq", "time_ns", "discontinuity", "coords", "metadata")


@attrs.frozen(kw_only=True)
class Piece:
    """The parts of one record.

    Attributes:
        data: The data; None if it is damaged.
        part: The index of the record in its file.
        begin: Its offset in the file.
        end: The place after it: part and byte.
        fields: Fields of the record that the file itself has.
        error: The reason why it is damaged.
    """

    data: Any
    part: int = 0
    begin: int = 0
    end: tuple[int, int] = (1, 0)
    fields: dict[str, Any] | None = None
    error: Exception | None = None


def is_whole(path: Path) -> bool:
    """Return whether a file is complete by its own format, and so no longer being written. Raises OSError.

    A `.npy` has as many bytes as its header says, a `.npz` its directory, which comes last, a `.json` can be parsed,
    a `.jsonl` ends with a newline.
    """
    try:
        if path.suffix == ".npy":
            if origin_of(path) is None:
                whole_array(path)
        elif path.suffix == ".npz":
            zipfile.ZipFile(path).close()
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        else:
            with path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                return end > 0 and os.pread(file.fileno(), 1, end - 1) == b"\n"
    except DAMAGED:
        return False
    return True


def stack_of(path: str) -> dict[str, Any] | None:
    """Return the first line beside a `.npy` that is a stack, or None."""
    return origin_of(path) if path.endswith(".npy") else None


def has_more(path: Path, place: tuple[int, int]) -> bool:
    """Return whether a file with parts has some after a place. Raises OSError."""
    if path.suffix == ".jsonl":
        return path.stat().st_size > place[1]
    try:
        frames = GrowingArray.open(path)
    except CannotGetObjectError:
        return False
    frames.close()
    return frames.count > place[0]


def pieces(
    path: Path, place: tuple[int, int], *, stack: dict[str, Any] | None, to_end: bool = True
) -> Generator[Piece, None, tuple[int, int]]:
    """Yield the pieces of a file from a place on; return the place after the last.

    Args:
        path: The file.
        place: Part and byte.
        stack: The result of `stack_of` for it.
        to_end: False leaves a line without its newline, which may still be being written, for later.

    Raises:
        OSError: it cannot be read.
        Exception: one of `DAMAGED`: it is not what its name says.
    """
    if path.suffix == ".jsonl":
        return (yield from _lines(path, *place, to_end=to_end))
    if path.suffix == ".json":
        yield Piece(data=json.loads(path.read_bytes()))
    elif path.suffix == ".npz":
        yield Piece(data=_arrays(path))
    elif stack is not None:
        return (yield from _frames(path, stack, place[0]))
    else:
        yield Piece(data=read_array(path)[0])
    return 1, 0


def _arrays(path: Path) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            content = archive.read(info)
            if not info.filename.endswith(".npy"):
                arrays[info.filename] = content
                continue
            file = io.BytesIO(content)
            version = npy.read_magic(file)
            if version != (3, 0):
                shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
                if not dtype.hasobject and file.tell() + dtype.itemsize * math.prod(shape) != len(content):
                    raise ValueError(f"its array {info.filename} does not have the size of its header")
            file.seek(0)
            arrays[info.filename.removesuffix(".npy")] = npy.read_array(file, allow_pickle=False)
    return arrays


def _lines(path: Path, part: int, at: int, *, to_end: bool) -> Generator[Piece, None, tuple[int, int]]:
    with path.open("rb") as file:
        file.seek(at)
        for text in file:
            if not (to_end or text.endswith(b"\n")):
                break
            begin, at = at, at + len(text)
            if text.strip():
                data = error = None
                try:
                    data = json.loads(text)
                except (ValueError, RecursionError) as wrong:
                    error = ValueError(f"line {part + 1} is not JSON: {wrong}")
                yield Piece(data=data, part=part, begin=begin, end=(part + 1, at), error=error)
            part += 1
    return part, at


def _frames(path: Path, origin: dict[str, Any], part: int) -> Generator[Piece, None, tuple[int, int]]:
    reader = StackReader(path)
    reader.catch_up()
    for frame, record in enumerate(reader.records(part, origin["channel"]), part):
        fields = {name: getattr(record, name) for name in _FIELDS}
        yield Piece(data=record.data, part=frame, end=(frame + 1, 0), fields=fields)
    return max(part, len(reader.seqs)), 0
