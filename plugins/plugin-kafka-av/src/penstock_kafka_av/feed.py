"""Feeds: packets of a container, read directly (a file) or by a thread (a camera)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Protocol

from penstock.errors import EndOfSource, SourceError
from penstock_kafka_av.container import Container, Packet

_QUEUED = 64
"""Maximum number of queued packets of a camera; beyond it, packets wait in the buffers of libav and the camera."""


class Feed(Protocol):
    """Packets of one video."""

    def next(self, timeout_s: float) -> Packet | None:
        """Return the next packet, or None after `timeout_s`. Raises EndOfSource or SourceError after the last one."""
        ...

    def close(self) -> None:
        """Close the container; may be called any number of times."""
        ...


class FileFeed:
    """Read a container in the caller's thread."""

    def __init__(self, container: Container) -> None:
        """Take ownership of the container."""
        self._container = container
        self._packets: Iterator[Packet] = container.packets()

    def next(self, timeout_s: float) -> Packet | None:
        """See `Feed`; never returns None."""
        packet = next(self._packets, None)
        if packet is None:
            raise EndOfSource(f"{self._container.name!r} has ended")
        return packet

    def close(self) -> None:
        """See `Feed`."""
        self._container.close()


class LiveFeed:
    """Read a container in a thread, so that the caller can wait for it with a timeout."""

    def __init__(self, container: Container) -> None:
        """Take ownership of the container, and start to read it."""
        self._container = container
        self._queue: queue.Queue[Packet | Exception] = queue.Queue(_QUEUED)
        self._stop = threading.Event()
        self._end: Exception | None = None
        self._thread = threading.Thread(target=self._work, name=f"video {container.name}", daemon=True)
        self._thread.start()

    def next(self, timeout_s: float) -> Packet | None:
        """See `Feed`."""
        if self._end is not None:
            raise self._end
        try:
            found = self._queue.get(timeout=timeout_s) if timeout_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(found, Exception):
            self._end = found
            raise found
        return found

    def close(self) -> None:
        """See `Feed`. Waits for the thread, at most for the container's timeout."""
        self._stop.set()
        while self._thread.is_alive():
            try:  # make room, so that a blocked thread continues and sees the stop event
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)

    def _work(self) -> None:
        end: Exception
        try:
            for packet in self._container.packets():
                self._put(packet)
                if self._stop.is_set():
                    break
            end = EndOfSource(f"{self._container.name!r} has ended")
        except SourceError as error:
            end = error
        except Exception as error:  # the source must report any error rather than wait for ever
            end = SourceError(f"video source: {self._container.name!r} failed: {error!r}; report this")
        finally:
            self._container.close()
        self._put(end)

    def _put(self, item: Packet | Exception) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return
