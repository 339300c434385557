"""Fill the disk under a store: the author's own records are written until one no longer fits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from penstock.errors import StoreError
from penstock.testing.faults import file_size_limit
from penstock.testing.store_case import StoreCase

_LEAST = 100
"""Records of the first rehearsal; twice as many in each that follows, up to the `many` of the case."""


def fill_disk(case: StoreCase, directory: Path, _: int) -> None:
    """Write records of the case until one does not fit on the disk, then write it again with room, and report both.

    A rehearsal in a separate directory shows how the files of this store grow, and so how large the disk must be.
    """
    limit_bytes, most = _rehearse(case, directory.with_name(f"{directory.name}-rehearsal"))
    store: Any = case.make_store(directory)
    store.open()
    store.write([case.record(0)])
    store.sync()
    said: dict[str, Any] = {"error": "none", "retryable": False, "held_before": 1}
    failed = case.record(1)
    with file_size_limit(limit_bytes):
        for number in range(1, most + 1):
            before, failed = set(_sizes(directory)), case.record(number)
            said["held_before"] = number
            try:
                store.write([failed])
                store.sync()
            except StoreError as error:
                said |= {"error": "StoreError", "retryable": error.retryable, "message": str(error)}
                break
            except Exception as error:  # this error is under test: the parent checks it
                said |= {"error": type(error).__name__, "message": str(error)}
                break
        said["held_while_full"] = len(store)
    said["left_behind"] = sorted(set(_sizes(directory)) - before)
    if said["error"] == "StoreError":
        store.write([failed])
        store.sync()
    store.close()
    print(json.dumps(said), flush=True)


def _rehearse(case: StoreCase, directory: Path) -> tuple[int, int]:
    """Return a size limit for files, in bytes, at which not all of some records fit, and their number."""
    directory.mkdir()
    store = case.make_store(directory)
    store.open()
    store.write([case.record(0)])
    store.sync()
    first, written, count = _sizes(directory), 1, _LEAST
    while True:
        for number in range(written, count + 1):
            store.write([case.record(number)])
            store.sync()
        written, sizes = count + 1, _sizes(directory)
        new = [size for path, size in sizes.items() if path not in first]
        if len(new) >= count // 2:  # a file for each record, and perhaps others that list them
            limit_bytes = Counter(new).most_common(1)[0][0] // 2
            break
        grown = max(sizes, key=lambda path: sizes[path] - first.get(path, 0), default="")
        if grown and sizes[grown] > first.get(grown, 0):
            limit_bytes = (sizes[grown] + first.get(grown, 0)) // 2
            break
        if count >= case.many:
            raise AssertionError(f"{count} records made none of its files grow: set on_disk to False, or raise `many`")
        count = min(2 * count, case.many)
    store.close()
    return limit_bytes, count


def _sizes(directory: Path) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in directory.rglob("*") if path.is_file()}
