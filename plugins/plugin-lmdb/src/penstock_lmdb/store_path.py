"""Where an object store lies: a directory of its own, named by the user or by the time."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

_STEM = re.compile(r"lmdb_(\d{8}_\d{6})(?:_(\d+))?")


def choose_path(path: Path, name: str | None) -> Path:
    """Return the directory of a new store, or of the one of this name."""
    if name is not None:
        return path / name
    stem = f"lmdb_{datetime.now():%Y%m%d_%H%M%S}"
    with contextlib.suppress(OSError):
        path.mkdir(parents=True, exist_ok=True)
    for own in _names(path, stem):
        try:
            own.mkdir()  # so that no other process takes it
        except FileExistsError:
            continue
        except OSError:  # opening says why
            return own
        return own
    raise AssertionError("names do not end")


def _names(path: Path, stem: str) -> Iterator[Path]:
    yield path / stem
    number = 1
    while True:
        number += 1
        yield path / f"{stem}_{number}"


def find_store(path: Path, name: str | None) -> Path:
    """Return where an existing store is."""
    if name is not None:
        return path / name
    if path.is_file() or (path / "data.mdb").exists():
        return path
    found = ((_STEM.fullmatch(file.parent.name), file.parent) for file in path.glob("lmdb_*/data.mdb"))
    stores = sorted((match[1], int(match[2] or 1), own) for match, own in found if match)
    return stores[-1][2] if stores else path
