"""The memory that a source takes while records come and are not read."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import tracemalloc
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from penstock.errors import EndOfSource

_PATIENCE_S = 10.0
_LOOK_AGAIN_S = 0.02
_STILL_S = 0.3
"""Seconds without growth after which the sent records are taken to have arrived."""
_BLOCKED_S = 1.0
"""The same while the sender is still at work: then it is taken to be blocked by the source."""
_NOISE_BYTES = 1024


class Feeds(Protocol):
    """A contract class, as this module uses it."""

    count: int

    def opened(self, tmp_path: Path, *, feed: bool = True) -> AbstractContextManager[Any]:
        """Open the source for a block."""
        ...

    def feed(self, tmp_path: Path) -> None:
        """Send `count` records."""
        ...


def bytes_taken_unread(case: Feeds, directory: Path, count: int) -> int:
    """Return by how many bytes the memory of this process grew while `count` records arrived and were not read.

    It is 0 if the sender is blocked, since the sender then holds the rest. Memory of Python and numpy counts, that of
    other C libraries does not. Waiting records are read before the source is closed, so that such a sender can end.
    """
    directory.mkdir()
    before_count, case.count = case.count, count
    try:
        with case.opened(directory, feed=False) as source:
            feeder = threading.Thread(target=_feed, args=(case, directory), name="feeds a source", daemon=True)
            taken = _taken(feeder)
            ends = time.monotonic() + _PATIENCE_S
            with contextlib.suppress(EndOfSource):
                while feeder.is_alive() and time.monotonic() < ends:
                    source.read(1000, _LOOK_AGAIN_S)
        feeder.join(_PATIENCE_S)
    finally:
        case.count = before_count
    return taken


def _taken(feeder: threading.Thread) -> int:
    """Start to feed, and return the bytes by which memory grew until all had arrived; 0 if the sender is blocked."""
    was_tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        feeder.start()
        after = _when_still(feeder)
        return 0 if feeder.is_alive() else after - before
    finally:
        if not was_tracing:
            tracemalloc.stop()


def _feed(case: Feeds, directory: Path) -> None:
    with contextlib.suppress(Exception):  # a source may refuse its sender when it has no room
        case.feed(directory)


def _when_still(feeder: threading.Thread) -> int:
    """Return the bytes in use once they no longer grow."""
    began = changed = time.monotonic()
    most, _ = tracemalloc.get_traced_memory()
    while (now := time.monotonic()) - began < _PATIENCE_S:
        used, _ = tracemalloc.get_traced_memory()
        if used > most + _NOISE_BYTES:
            most, changed = used, now
        if now - changed > (_BLOCKED_S if feeder.is_alive() else _STILL_S):
            break
        time.sleep(_LOOK_AGAIN_S)  # a source does not report when it has received all records

    gc.collect()
    return tracemalloc.get_traced_memory()[0]
