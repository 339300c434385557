"""Segments: memory that processes share, which never shrinks and is freed with its last user."""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from pathlib import Path
from typing import Any

import attrs

from penstock.errors import StoreError

UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
"""Saves the mapping's own descriptor, of which a process may have 1024; not possible before Python 3.13."""


@attrs.define(eq=False)
class MappedSegment:
    """A segment of another process, mapped to be read; its descriptor stays open, so that it can be passed on."""

    descriptor: int
    size: int
    mapped: mmap.mmap

    def __del__(self) -> None:
        os.close(self.descriptor)


_ZEROS = memoryview(bytes(256 << 10))
_SEALS = 0x0002 | 0x0004  # F_SEAL_SHRINK | F_SEAL_GROW, linux/fcntl.h; mypy's fcntl lacks them on other systems


def new_segment(label: str, size: int) -> int:
    """Return the descriptor of `size` bytes of anonymous shared memory, reserved and sealed against change of size.

    It has no name in any directory: the kernel frees it when the last process that has it open or mapped ends,
    for whatever reason. Being reserved and sealed, it cannot raise a bus error later.

    Raises:
        StoreError: there is not enough memory; the message says how much is available.
    """
    try:
        free = available_bytes()
        if size > free:
            raise StoreError(f"shared memory: {label} needs {size} more bytes, and this machine has {free} available")
        descriptor = os.memfd_create(label, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"shared memory: {label} cannot get another segment ({error.strerror}; ulimit -n)") from error
    try:
        # Faster than posix_fallocate, after which mapping must clear each page; and other threads run meanwhile.
        written = 0
        while written < size:
            written += os.pwrite(descriptor, _ZEROS[: size - written], written)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"shared memory: {label} cannot get {size} more bytes ({error.strerror})") from error
    return descriptor


def map_segment(descriptor: int, size: int, *, writable: bool) -> mmap.mmap:
    """Map a segment that this or another process made; the descriptor is closed, the mapping remains.

    Raises:
        StoreError: it is not `size` bytes, or not sealed: then reading it might crash this process.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
        held = os.fstat(descriptor).st_size
        if seals & _SEALS != _SEALS or held < size or size <= 0:
            raise StoreError(
                f"shared memory: a segment of {size} bytes was announced, but {held} were received, seals {seals}"
            )
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        # Populated, so that the first frames are as fast as the later ones.
        return mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=protection, **UNTRACKED)
    finally:
        os.close(descriptor)


def keep_segment(descriptor: int, size: int) -> MappedSegment:
    """Map a segment that another process made, and keep its descriptor. StoreError: as `map_segment`."""
    try:
        return MappedSegment(descriptor, size, map_segment(os.dup(descriptor), size, writable=False))
    except BaseException:
        os.close(descriptor)
        raise


def available_bytes() -> int:
    """Return how much memory may still be taken: nine tenths of that available to this machine and control group."""
    free = _meminfo()
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no control group of version 2, or not readable: the machine's figure stands
    return max(0, free * 9 // 10)


def _meminfo() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62
