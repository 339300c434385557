"""Repair an archive: rebuild a lost or torn index from the files, and cut torn ends off stacks and logs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from penstock.coords import DataCoordinates
from penstock.errors import CannotGetObjectError, ConfigError, StoreError
from penstock.identity import named_number
from penstock.record import Record
from penstock.whole_files import write_whole
from penstock_npy.folder import SIDECAR
from penstock_npy.index import DIRECTORY, FORMAT, Index, entry_of, fields_of, file_id
from penstock_npy.names import NamePattern
from penstock_npy.npy_format import whole_array
from penstock_npy.pair_lock import locked
from penstock_npy.segment import MAGIC, SegmentWriter
from penstock_npy.stack_file import StackWriter, origin_of


@attrs.define
class Recovered:
    """The result of `recover`.

    Attributes:
        files: The number of `.npy` files, without those of stacks.
        added: Those that were missing in the index, and were added.
        torn_lines: Lines of the index that could not be read, and were removed.
        cut: Bytes that were cut off the ends of stacks and logs, by file.
        damaged: Files that cannot be read, with the reason. They are left unchanged.
    """

    files: int = 0
    added: list[str] = attrs.field(factory=list)
    torn_lines: int = 0
    cut: dict[str, int] = attrs.field(factory=dict)
    damaged: dict[str, str] = attrs.field(factory=dict)


def recover(directory: Path, *, path: str | None = None) -> Recovered:
    """Repair the files of this plugin's stores below a directory. No array is changed.

    A file that is missing in the index gets a line: with the fields from a `….npy.json` beside it; or with channel,
    seq, coordinates and metadata as far as its name has them; else without a channel, with a seq that is computed from
    its path, and the time when it was written.

    Args:
        directory: The root of the archive.
        path: The template of the names; None takes the one that the index names.

    Raises:
        ConfigError: there is no such directory.
        TemplateError: `path` is not a template.
        OSError: the index cannot be written.
    """
    root = Path(directory)
    if not root.is_dir():
        raise ConfigError(f"recover: {root} is not a directory; use the root of an archive")
    found = Recovered()
    plain: list[str] = []
    for name in _names(root):
        file = root / name
        if name.endswith(".log"):
            _mend_log(file, name, found)
        elif name.endswith(".npy") and not name.endswith(".times.npy"):
            if origin_of(file) is None:
                plain.append(name)
            else:
                _mend_stack(file, name, found)
    found.files = len(plain)
    if plain:
        _mend_index(root, plain, path, found)
    return found


def _names(root: Path) -> Iterator[str]:
    for above, directories, names in os.walk(root):
        directories[:] = sorted(name for name in directories if name != DIRECTORY)
        for name in sorted(names):
            yield Path(above, name).relative_to(root).as_posix()


def _mend_log(file: Path, name: str, found: Recovered) -> None:
    try:
        with file.open("rb") as opened:
            if opened.read(len(MAGIC)) != MAGIC:
                return
        writer = SegmentWriter(file)
        cut = writer.open()
        writer.close()
    except (StoreError, OSError) as error:
        found.damaged[name] = str(error)
        return
    if cut:
        found.cut[name] = cut


def _mend_stack(file: Path, name: str, found: Recovered) -> None:
    before = file.stat().st_size
    try:
        StackWriter.open(file).close()
    except (StoreError, CannotGetObjectError, OSError) as error:
        found.damaged[name] = str(error)
        return
    if file.stat().st_size < before:
        found.cut[name] = before - file.stat().st_size


def _mend_index(root: Path, names: list[str], path: str | None, found: Recovered) -> None:
    index = Index(root)
    index.directory.mkdir(exist_ok=True)
    with locked(os.fspath(index.directory)):
        known: set[str] = set()
        for file in index.files():
            known |= _mend_lines(file, index, found)
        if path is not None:
            index.template = path
        pattern = NamePattern(index.template) if index.template else None
        for name in names:
            if name in known:
                continue
            try:
                status = whole_array(root / name)
            except (ValueError, EOFError, OSError) as error:
                found.damaged[name] = str(error)
                continue
            record = _known_otherwise(root / name, name, pattern, status)
            index.add(name, file_id(status), record.channel, entry_of(record))
            found.added.append(name)
    index.close()


def _mend_lines(file: Path, index: Index, found: Recovered) -> set[str]:
    """Remove the lines of a file that cannot be read; return the paths of the others."""
    good, known = [], set()
    content = file.read_bytes()
    lines = content.splitlines(keepends=True)
    for text in lines:
        try:
            line = json.loads(text)
            if not text.endswith(b"\n"):
                raise ValueError("it was never finished")
            if line.get("format") == FORMAT:
                index.template = line["template"]
            else:
                fields_of(line)
                known.add(line["path"])
            good.append(text)
        except (ValueError, AttributeError, KeyError, TypeError):
            found.torn_lines += bool(text.strip())
    if len(good) < len(lines):
        write_whole(file, b"".join(good))
    return known


def _known_otherwise(file: Path, name: str, pattern: NamePattern | None, status: os.stat_result) -> Record:
    try:
        beside = json.loads(file.with_name(file.name + SIDECAR).read_bytes())
        return Record(None, **fields_of(beside))
    except (OSError, ValueError, TypeError):
        pass
    fields: dict[str, Any] = (pattern.read(name) if pattern is not None else None) or {}
    return Record(
        None,
        channel=fields.get("channel", ""),
        seq=fields.get("seq", named_number(name)),
        time_ns=fields.get("time_ns", status.st_mtime_ns),
        coords=DataCoordinates(fields.get("coords", {})),
        metadata=fields.get("metadata", {}),
    )
