"""The memory allocator: configured to keep freed memory for the next arrays of all lanes."""

from __future__ import annotations

import os
from typing import Final

BLOCK_BYTES: Final = 8 * 2**20
LARGEST_BYTES: Final = 32 * 2**20
KEPT_BYTES: Final = 64 * 2**20

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h of glibc

_done = False


def keep_freed_memory() -> None:
    """Let arrays of up to 32 MiB reuse the memory that any thread has freed, instead of faulting in new pages.

    Has an effect once per process, and none if the environment sets up the allocator (`MALLOC_ARENA_MAX` and others,
    `GLIBC_TUNABLES`).

    glibc gives each thread a heap of its own, and returns only free memory at its top to the system. Arrays that one
    lane makes and another drops then come from fresh pages nearly every time: decoding 1080p with two workers spent a
    third of its time in page faults, and the heaps grew to three times the memory that was in use. So all threads share
    one heap (those that have one by then keep it), and it keeps up to 64 MiB of unused memory, enough for an edge.
    Python allocates small objects itself, and libraries reuse their buffers, so that threads rarely compete for the
    heap. Other allocators are not affected. Where glibc cannot be asked, freeing one block of 8 MiB, whose pages are
    never touched, raises its thresholds to 8 and 16 MiB.
    """
    global _done
    if _done:
        return
    _done = True
    if any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    if not _set_up():
        bytes(BLOCK_BYTES)


def is_glibc() -> bool:
    """Return whether the C library of this process is glibc."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, OSError, ValueError):  # not Linux, or musl
        return False


def _set_up() -> bool:
    """Set up glibc's allocator; return False if it cannot be asked."""
    if not is_glibc():
        return False
    try:
        import ctypes  # imported here: it takes milliseconds, and only glibc needs it

        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, ImportError):
        return False
    values = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, LARGEST_BYTES), (_TRIM_THRESHOLD, KEPT_BYTES))
    return all(mallopt(option, value) == 1 for option, value in values)
