"""LoggerQueue: the queue from any process to the writer process of a DataLogger."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from pathlib import Path
from typing import Any

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import StoreError
from penstock_npy.log_package import LogPackage
from penstock_npy.segment import MOST_BYTES, entry_buffers

BUFFER_BYTES = 4 << 20
"""The most bytes in flight from one process before `put` waits; the kernel may allow less."""


class LoggerFullError(StoreError, TimeoutError):
    """The disk did not keep up for longer than `put_timeout_s`: this entry was not taken."""


@checks_arguments
@attrs.define(eq=False)
class LoggerQueue:
    """Put entries from any thread of any process, forked or spawned.

    Each process has a connection of its own, made at its first `put`: there is no lock that others wait for, so that a
    process may die at any moment. When `put` has returned, the kernel has the entry: it is written even if the process
    dies.

    Attributes:
        address: The socket of the writer process.
        put_timeout_s: How long `put` may wait for the disk.
    """

    address: Path
    put_timeout_s: float = 30.0
    _pid: int = attrs.field(default=0, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _socket: socket.socket | None = attrs.field(default=None, init=False)

    def put(self, item: LogPackage, block: bool = True, timeout: float | None = None) -> None:
        """Put an entry.

        Args:
            item: The entry.
            block: False does not wait.
            timeout: Seconds to wait for room; None takes `put_timeout_s`.

        Raises:
            LoggerFullError: there was no room in time; the entry was not taken.
            StoreError: the logger is not started, or has ended.
            TypeError: it is not a LogPackage.
        """
        if not isinstance(item, LogPackage):
            raise TypeError(f"DataLogger: put a LogPackage, not {type(item).__name__}")
        if len(item.data) > MOST_BYTES:
            raise StoreError(f"DataLogger: an entry of {len(item.data)} bytes is too large", retryable=False)
        entry = b"".join(entry_buffers(item.timestamp, 0, item.data, item.source_id))
        wait_s = (self.put_timeout_s if timeout is None else timeout) if block else 0.0
        if self._pid != os.getpid():  # after a fork, lock and connection are the parent's
            self._lock, self._pid = threading.Lock(), os.getpid()
            if self._socket is not None:
                os.close(self._socket.detach())
                self._socket = None
        with self._lock:
            try:
                self._send(entry, wait_s)
            except (BrokenPipeError, ConnectionResetError):
                # The logger was stopped, and possibly started again: the part of this entry there is ignored.
                self._drop()
                try:
                    self._send(entry, wait_s)
                except (BrokenPipeError, ConnectionResetError) as error:
                    self._drop()
                    raise StoreError("DataLogger: the process that writes has ended; call start()") from error

    def put_nowait(self, item: LogPackage) -> None:
        """Put an entry without waiting. Raises as `put`."""
        self.put(item, block=False)

    def close(self) -> None:
        """Close the connection of this process; the next `put` makes a new one."""
        if self._pid == os.getpid():
            with self._lock:
                self._drop()

    def _send(self, entry: bytes, wait_s: float) -> None:
        connection = self._socket or self._connect()
        rest = memoryview(entry)
        deadline_s = time.monotonic() + wait_s
        while rest:
            try:
                rest = rest[connection.send(rest) :]
            except BlockingIOError:
                begun = len(rest) < len(entry)  # an entry that was begun is finished if possible
                left_s = deadline_s - time.monotonic() + (self.put_timeout_s if begun else 0.0)
                if left_s > 0 and select.select([], [connection], [], left_s)[1]:
                    continue
                if begun:
                    self._drop()  # the other side discards the part that it has
                message = f"DataLogger: the disk did not keep up for {wait_s:g} s; log less, or raise put_timeout_s"
                raise LoggerFullError(message) from None

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            connection.connect(os.fspath(self.address))
            connection.setblocking(False)
        except OSError as error:
            connection.close()
            raise StoreError(f"DataLogger: the writer process is not running; call start() first ({error})") from error
        self._socket = connection
        return connection

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __getstate__(self) -> tuple[Path, float]:
        return self.address, self.put_timeout_s

    def __setstate__(self, state: Any) -> None:
        self.__init__(*state)  # type: ignore[misc]  # a queue that was sent starts empty
