"""The waits of a producer for its consumers, with a timeout."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from penstock.errors import StoreError
from penstock_shm.channel.audience import Consumer
from penstock_shm.channel.wake_up import WakeUpEvent

TICK_S = 0.02


class Waiting:
    """Waits for changes at the consumers; used with the producer's lock held.

    Attributes:
        closing: Set when the producer is being closed, which ends all waits.
    """

    def __init__(self, label: str, lock: threading.RLock, wake_up: WakeUpEvent, consumers: Sequence[Consumer]) -> None:
        self.closing = False
        self._label = label
        self._lock = lock
        self._wake_up = wake_up
        self._consumers = consumers

    def until(
        self, timeout_s: float | None, complaint: Callable[[], str], busy: Callable[[], bool] | None = None
    ) -> Iterator[None]:
        """Yield after each change until the caller breaks; raise StoreError after `timeout_s` without `busy`."""
        yield
        started_s = time.monotonic()
        try:
            while True:
                for consumer in self._consumers:
                    consumer.request_wake()
                yield  # once more: a consumer may have released a block before it saw the request
                self._doze()
                if self.closing:
                    raise StoreError(f"{self._label}: closed while a write waited; its records were not written")
                yield
                if busy is not None and busy():
                    started_s = time.monotonic()
                if timeout_s is not None and time.monotonic() - started_s > timeout_s:
                    raise StoreError(complaint())
        finally:
            for consumer in self._consumers:
                if consumer.control is not None:
                    consumer.control.end_wait()

    def _doze(self) -> None:
        """Release the lock until a consumer or the listening thread wakes this one, or for one tick."""
        self._lock.release()
        try:
            self._wake_up.wait(TICK_S)
        finally:
            self._lock.acquire()
