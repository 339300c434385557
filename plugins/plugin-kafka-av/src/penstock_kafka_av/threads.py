"""Threads: how many a decoder gets, by the processors there are and the decoders that share them."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any


class ThreadShare:
    """Divide the processors among the decoders that are open in this process.

    A decoder of libav keeps the threads that it began with, so the first gets one for each processor, the second half
    of them, and from as many as there are processors on each gets one, which costs no thread of its own.
    """

    def __init__(self, processors: int) -> None:
        """Take how many processors there are."""
        self._processors = processors
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()

    def join(self, decoder: Any) -> int:
        """Return how many threads this decoder gets; it counts until it leaves, or is forgotten."""
        with self._lock:
            self._open.add(decoder)
            return max(1, self._processors // len(self._open))

    def leave(self, decoder: Any) -> None:
        """Count a decoder no longer; any number of times."""
        with self._lock:
            self._open.discard(decoder)


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


SHARE = ThreadShare(_processors())
"""That of this process: what is counted are threads of its processors, of which there is one set."""
