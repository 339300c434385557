"""Faults on demand: stores and sources that fail or are slow, a function that raises once, a full disk, a clock."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import SourceError, StoreError
from penstock.record import Record

T = TypeVar("T")

_NOBODY = 65534


def disk_full() -> StoreError:
    """Return the error of a store whose disk is full: it can be retried."""
    return StoreError("faulty: No space left on device")


def source_gone() -> SourceError:
    """Return the error of a source that lost its connection."""
    return SourceError("faulty: the connection was closed by the other side")


@checks_arguments
@attrs.define(kw_only=True)
class FaultyStore:
    """A wrapper of a store that fails on demand; other calls reach the store unchanged.

    Attributes:
        store: The store that keeps the records.
        fail_on: Numbers of the calls of `write` that raise, counted from 1; nothing of such a call is written.
        fail_sync_on: Numbers of the calls of `sync` that raise.
        refuse: Returns whether a record is refused: it is named in `failed`, its neighbours are written.
        error: Makes the error to raise.
        writes: Calls of `write` so far.
        syncs: Calls of `sync` so far.
    """

    takes: ClassVar[str] = "any"
    in_memory: ClassVar[bool] = True

    store: Any
    fail_on: Collection[int] = ()
    fail_sync_on: Collection[int] = ()
    refuse: Callable[[Record], bool] | None = None
    error: Callable[[], BaseException] = disk_full
    writes: int = attrs.field(default=0, init=False, eq=False)
    syncs: int = attrs.field(default=0, init=False, eq=False)

    def open(self) -> None:
        """Open the store."""
        self.store.open()

    def write(self, records: Sequence[Record]) -> None:
        """Write, or fail on demand."""
        self.writes += 1
        if self.writes in self.fail_on:
            raise self.error()
        bad = [record for record in records if self.refuse is not None and self.refuse(record)]
        self.store.write([record for record in records if record not in bad])
        if bad:
            failed = [(record, StoreError("faulty: refused", retryable=False)) for record in bad]
            raise StoreError(f"faulty: {len(bad)} records refused", failed=failed, retryable=False)

    def sync(self) -> None:
        """Sync, or fail on demand."""
        self.syncs += 1
        if self.syncs in self.fail_sync_on:
            raise self.error()
        self.store.sync()

    def close(self) -> None:
        """Close the store."""
        self.store.close()


@checks_arguments
@attrs.define(kw_only=True)
class SlowStore:
    """A wrapper of a store whose `write` waits until the test allows it, so that no test has to sleep.

    Attributes:
        store: The store that keeps the records.
        entered: Set while a `write` waits.
        allow: Allows this many more calls of `write`; None allows all from now on.
    """

    takes: ClassVar[str] = "any"
    in_memory: ClassVar[bool] = True

    store: Any
    entered: threading.Event = attrs.field(factory=threading.Event, init=False, eq=False, repr=False)
    _gate: threading.Condition = attrs.field(factory=threading.Condition, init=False, eq=False, repr=False)
    _allowed: float = attrs.field(default=0, init=False, eq=False, repr=False)

    def open(self) -> None:
        """Open the store."""
        self.store.open()

    @checks_arguments
    def allow(self, calls: int | None = None) -> None:
        """Allow `calls` more calls of `write`; None allows all. From any thread."""
        with self._gate:
            self._allowed = float("inf") if calls is None else self._allowed + calls
            self._gate.notify_all()

    def write(self, records: Sequence[Record]) -> None:
        """Wait until it is allowed, then write."""
        with self._gate:
            self.entered.set()
            self._gate.wait_for(lambda: self._allowed >= 1)
            self._allowed -= 1
            self.entered.clear()
        self.store.write(records)

    def sync(self) -> None:
        """Sync the store."""
        self.store.sync()

    def close(self) -> None:
        """Allow all calls, and close the store."""
        self.allow()
        self.store.close()


@checks_arguments
@attrs.define(kw_only=True)
class FaultySource:
    """A wrapper of a source that fails on demand; other reads are unchanged, and no record is lost.

    Attributes:
        source: The source of the records.
        fail_on: Numbers of the calls of `read` that raise, counted from 1.
        error: Makes the error to raise.
        reads: Calls of `read` so far.
    """

    in_memory: ClassVar[bool] = True

    source: Any
    fail_on: Collection[int] = ()
    error: Callable[[], BaseException] = source_gone
    reads: int = attrs.field(default=0, init=False, eq=False)

    @property
    def gives(self) -> str:
        """The kind of data of the source."""
        return str(getattr(self.source, "gives", "any"))

    def open(self) -> None:
        """Open the source."""
        self.source.open()

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Read, or fail on demand."""
        self.reads += 1
        if self.reads in self.fail_on:
            raise self.error()
        records: Sequence[Record] = self.source.read(max_records, timeout_s)
        return records

    def close(self) -> None:
        """Close the source."""
        self.source.close()


@checks_arguments
def raise_nth(fn: Callable[..., T], *calls: int, error: Callable[[], BaseException] = ValueError) -> Callable[..., T]:
    """Return a function that calls `fn`, but raises in the calls with these numbers, counted from 1. Thread-safe."""
    lock = threading.Lock()
    count = 0

    def wrapped(*args: Any, **kwargs: Any) -> T:
        nonlocal count
        with lock:
            count += 1
            now = count
        if now in calls:
            raise error()
        return fn(*args, **kwargs)

    return wrapped


@contextlib.contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Prevent files of this process from growing beyond `size_bytes`, as if the disk were full. Not on Windows.

    The limit holds for the whole process: use it in a child.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@checks_arguments
@attrs.define
class JumpingClock:
    """A clock that moves only on demand: call it for seconds, like `time.monotonic`, or call `time_ns()`.

    Attributes:
        now_s: Seconds since its start.
        start_ns: The value of `time_ns()` at the start, in nanoseconds since 1970.
    """

    now_s: float = 0.0
    start_ns: int = 1_700_000_000_000_000_000

    def __call__(self) -> float:
        """Return the seconds since its start."""
        return self.now_s

    def time_ns(self) -> int:
        """Return nanoseconds since 1970, as `time.time_ns`."""
        return self.start_ns + round(self.now_s * 1e9)

    @checks_arguments
    def jump(self, seconds: float) -> None:
        """Move forward, or back with a negative number, like the clock of a machine when it is set."""
        self.now_s += seconds

    @checks_arguments
    def sleep(self, seconds: float) -> None:
        """Move forward at once, in place of `time.sleep`."""
        self.jump(max(0.0, seconds))


@contextlib.contextmanager
def permissions_hold() -> Iterator[None]:
    """Enforce file permissions in this block even if tests run as root, by switching to the user nobody."""
    if not hasattr(os, "geteuid") or os.geteuid():
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
