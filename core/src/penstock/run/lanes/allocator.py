"""The memory allocator: make it keep freed memory for the next arrays of a lane."""

from __future__ import annotations

from typing import Final

BLOCK_BYTES: Final = 8 * 2**20

_done = False


def keep_freed_memory() -> None:
    """Let arrays of up to 8 MiB (a picture of 1080p) reuse freed memory instead of faulting in new pages.

    Has an effect once per process.
    glibc returns freed memory at the top of a thread's heap to the system above a threshold of 128 KiB, and takes
    larger blocks from the system each time, until a program frees such a block: then it raises both thresholds to
    the size of that block, and twice that (mallopt(3), M_MMAP_THRESHOLD). Until then, threads that make and drop
    arrays spend most of their time in page faults. So one block is freed here, whose pages are never touched. A
    thread's heap keeps up to 16 MiB that it does not use. Other allocators are not affected.
    """
    global _done
    if not _done:
        _done = True
        bytes(BLOCK_BYTES)
