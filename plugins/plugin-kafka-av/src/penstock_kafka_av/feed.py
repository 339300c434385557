"""Feeds: packets from a container at once (a file), or from a thread that waits for them (a camera)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Protocol

from penstock.errors import EndOfSource, SourceError
from penstock_kafka_av.container import Container, Packet

_QUEUED = 64
"""Packets that a camera may be ahead; then libav is not read and the camera's own buffers fill."""


class Feed(Protocol):
    """Packets of one video."""

    def next(self, timeout_s: float) -> Packet | None:
        """Return the next packet, or None if none came in time. Raises EndOfSource or SourceError when no more come."""
        ...

    def close(self) -> None:
        """Close the container; any number of times."""
        ...


class FileFeed:
    """Read a container when asked."""

    def __init__(self, container: Container) -> None:
        """Take the container, which this closes."""
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
    """Read a container in a thread, so that waiting for it can be given up in time."""

    def __init__(self, container: Container) -> None:
        """Take the container, which this closes, and begin to read it."""
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
        """See `Feed`. Waits for the thread, at most for the container's own time limit."""
        self._stop.set()
        while self._thread.is_alive():
            try:  # a thread that waits for room goes on and sees that it shall stop
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
        except Exception as error:  # whatever it is, the source must say it rather than wait for ever
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
