"""ThreadShare: divides the processors among the open decoders."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any


class ThreadShare:
    """Divide the processors among the decoders that are open in this process.

    A libav decoder keeps the threads that it was opened with. So the first decoder gets one thread per processor, the
    second one half as many, and so on; with one thread, libav decodes in the caller's thread.
    """

    def __init__(self, processors: int) -> None:
        """Set the number of processors to divide."""
        self._processors = processors
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()

    def join(self, decoder: Any) -> int:
        """Return the number of threads for this decoder, which counts until `leave` or until it is freed."""
        with self._lock:
            self._open.add(decoder)
            return max(1, self._processors // len(self._open))

    def leave(self, decoder: Any) -> None:
        """Stop counting a decoder; may be called any number of times."""
        with self._lock:
            self._open.discard(decoder)


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


SHARE = ThreadShare(_processors())
"""The share of this process, whose processors all its decoders use."""
