"""Dead letters as files: the records of a run that failed for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from penstock.errors import CodecError
from penstock.record import Record

LOG: Final = "records.log"
"""The file of each run's dead letters, in a directory of its own."""


def read_dead_letters(directory: Path, on_damage: Callable[[Path, Exception], None] | None = None) -> Iterator[Record]:
    """Yield the dead letters below a directory, oldest run first; the record that failed is the `parent` of each.

    A log or an entry that cannot be read does not stop the others: `on_damage` is called with its path and the error,
    once for each. Without it, the first error is raised after all others have been yielded.
    """
    from penstock.recordlog import read_log

    damaged: list[Exception] = []

    def note(path: Path, error: Exception) -> None:
        damaged.append(error)
        if on_damage is not None:
            on_damage(path, error)

    for path in sorted(directory.rglob(LOG)):
        try:
            for _, letter in read_log(path, on_damage=partial(note, path)):
                if letter.parent is None or "node" not in letter.metadata:
                    note(path, CodecError(f"{path}: its record {letter.seq} is not a dead letter"))
                else:
                    yield letter
        except (CodecError, OSError) as error:
            note(path, error)
    if damaged and on_damage is None:
        raise damaged[0]
