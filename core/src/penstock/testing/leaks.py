"""Leaks: threads, files, child processes and shared memory that a component must release when it is closed."""

from __future__ import annotations

import contextlib
import fnmatch
import gc
import os
import re
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import attrs
import pytest

from penstock.arguments import checks_arguments

_FILES = Path("/proc/self/fd")
_SHARED_MEMORY = Path("/dev/shm")
_LOOK_AGAIN_S = 0.01


@attrs.frozen
class Held:
    """The resources of this process at one moment.

    Attributes:
        threads: Running threads.
        files: Open file descriptors and their targets; empty where there is no /proc.
        children: Ids of child processes; empty where there is no /proc.
        shared_memory: Names below /dev/shm that match the pattern, or that belong to this process: their names
            contain its id, or it has them mapped.
    """

    threads: frozenset[threading.Thread]
    files: frozenset[tuple[str, str]]
    children: frozenset[str]
    shared_memory: frozenset[str]

    @classmethod
    def now(cls, *, shared_memory: str = "") -> Held:
        """Take a snapshot. `shared_memory`: glob pattern of names below /dev/shm to count, of any process ("psm_*")."""
        return cls(frozenset(threading.enumerate()), _files(), _children(), _shared_memory(shared_memory))


def leaks(
    before: Held, *, wait_s: float = 2.0, shared_memory: str = "", threads: str | Collection[str] = ()
) -> list[str]:
    """Return the resources of this process that are not in `before`, each as a sentence.

    Resources that are about to be released (a thread, a socket that a library closes in a thread of its own) are
    waited for, up to `wait_s` seconds in all. Threads whose names match `threads`, a glob or several ("asyncio_*"),
    are neither waited for nor listed: they belong to the pool of a library, which keeps them until the program ends.
    """
    patterns = (threads,) if isinstance(threads, str) else tuple(threads)
    gc.collect()
    ends = time.monotonic() + wait_s
    for thread in _new_threads(before, patterns):
        if thread is not threading.current_thread():
            thread.join(max(0.0, ends - time.monotonic()))
    found = _more(before, shared_memory, patterns)
    while found and time.monotonic() < ends:
        time.sleep(_LOOK_AGAIN_S)  # the kernel does not notify of closed descriptors
        found = _more(before, shared_memory, patterns)
    return found


def _new_threads(before: Held, patterns: tuple[str, ...]) -> list[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before.threads and not any(fnmatch.fnmatchcase(thread.name, pattern) for pattern in patterns)
    ]


def _more(before: Held, shared_memory: str, patterns: tuple[str, ...]) -> list[str]:
    after = Held.now(shared_memory=shared_memory)
    found = [
        f"thread {thread.name!r} still runs; name it in `threads` if a library's pool keeps it by design"
        for thread in _new_threads(before, patterns)
    ]
    found += [f"file descriptor {fd} is still open: {target}" for fd, target in after.files - before.files]
    found += [f"child process {child} still runs" for child in after.children - before.children]
    found += [f"shared memory /dev/shm/{name} is still there" for name in after.shared_memory - before.shared_memory]
    return sorted(found)


@checks_arguments
@contextlib.contextmanager
def no_leaks(*, wait_s: float = 2.0, shared_memory: str = "", threads: str | Collection[str] = ()) -> Iterator[None]:
    """Fail if the block leaves a thread, file, child process or shared memory behind.

    `leaves_nothing` is the same as a fixture. An error of the block itself has priority. Other processes make shared
    memory too: that of this process is recognised by its id in the name, or because it is mapped here; pass a pattern,
    `shared_memory="psm_*"`, to count more. Threads that match `threads` ("asyncio_*", or a tuple of globs) may stay.
    """
    before = Held.now(shared_memory=shared_memory)
    yield
    found = leaks(before, wait_s=wait_s, shared_memory=shared_memory, threads=threads)
    assert not found, "left behind: " + "; ".join(found)


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """Fail a test that leaves resources behind; import it into conftest.py, and mark tests with `usefixtures`."""
    with no_leaks():
        yield


def _files() -> frozenset[tuple[str, str]]:
    found = set()
    with contextlib.suppress(OSError):
        for fd in os.listdir(_FILES):
            with contextlib.suppress(OSError):  # the descriptor of the listing is already closed
                found.add((fd, os.readlink(_FILES / fd)))
    return frozenset(found)


def _children() -> frozenset[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(task.read_text().split())
    return frozenset(found)


def _shared_memory(pattern: str) -> frozenset[str]:
    mapped = ""
    with contextlib.suppress(OSError):
        mapped = Path("/proc/self/maps").read_text(errors="replace")
    own_id = re.compile(rf"(?<!\d){os.getpid()}(?!\d)")
    try:
        names = os.listdir(_SHARED_MEMORY)
    except OSError:
        return frozenset()
    return frozenset(
        name
        for name in names
        if own_id.search(name) or f"{_SHARED_MEMORY}/{name}" in mapped or (pattern and fnmatch.fnmatch(name, pattern))
    )
