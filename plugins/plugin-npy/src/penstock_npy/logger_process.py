"""The writer process of a DataLogger: `python -m penstock_npy.logger_process`, started by `DataLogger.start`.

It has two descriptors from its parent: the socket that it accepts connections on, and one whose end says that the
parent has died. It ends when the parent stops it, or has died, after it has written all entries put until then.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import attrs

from penstock_npy.entry_files import EntryFiles
from penstock_npy.entry_log import EntryLog
from penstock_npy.reserve import Reserve
from penstock_npy.segment import HEAD, entry_size

_CHUNK_BYTES = 1 << 20
_SYNC_EVERY_S = 1.0
_UNFINISHED_S = 2.0
"""Seconds that an entry may take to arrive completely once the logger stops."""
_RETRY_S = 0.2
_GIVE_UP_S = 30.0
"""Seconds that a full disk is retried after the logger was stopped, or its process died."""
Entry = tuple[int, int, memoryview]
"""Source id, time, and all its bytes."""


@attrs.define(eq=False)
class _Connection:
    """The connection of one process that puts entries."""

    socket: socket.socket
    parts: list[bytes] = attrs.field(factory=list)
    held: int = 0
    needed: int = HEAD.size

    def entries(self, content: bytes) -> list[Entry]:
        """Return the entries that are complete now."""
        self.held += len(content)
        self.parts.append(content)
        if self.held < self.needed:
            return []
        whole = memoryview(content if len(self.parts) == 1 else b"".join(self.parts))
        found: list[Entry] = []
        offset, end = 0, len(whole)
        unpack = HEAD.unpack_from
        self.needed = HEAD.size
        while offset + HEAD.size <= end:
            _, when, _, size, source = unpack(whole, offset)
            after = offset + entry_size(size)
            if after > end:
                self.needed = after - offset
                break
            found.append((source, when, whole[offset:after]))
            offset = after
        self.parts = [bytes(whole[offset:])] if offset < end else []
        self.held = end - offset
        return found


@attrs.define(eq=False)
class LoggerProcess:
    """Accept connections, and write their entries."""

    listener: socket.socket
    parent: int
    writer: Any
    reserve: Reserve
    _selector: selectors.BaseSelector = attrs.field(factory=selectors.DefaultSelector, init=False)
    _connections: dict[int, _Connection] = attrs.field(factory=dict, init=False)
    _began_under: int = attrs.field(factory=os.getppid, init=False)
    _ending_s: float = attrs.field(default=0.0, init=False)
    _unwritten: bool = attrs.field(default=False, init=False)
    _synced_s: float = attrs.field(factory=time.monotonic, init=False)

    def run(self) -> None:
        """Work until the parent stops it, or has died; then write all entries that were put, and return."""
        self._selector.register(self.listener, selectors.EVENT_READ, None)
        self._selector.register(self.parent, selectors.EVENT_READ, "parent")
        os.set_blocking(self.parent, False)
        self.listener.setblocking(False)
        while True:
            ready = self._selector.select(_SYNC_EVERY_S)
            self._take([key for key, _ in ready if key.data != "parent"])
            # Processes that were forked from the parent hold the other end too, so its death must be checked.
            if self._is_ending():
                break
            self._sync(_SYNC_EVERY_S)
        self._selector.unregister(self.parent)
        self._drain(time.monotonic() + _UNFINISHED_S)
        self._accept()
        self._selector.unregister(self.listener)
        self.listener.close()
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RD)  # later puts raise
        self._drain(0.0)
        self._sync(0.0)
        self.writer.close()

    def _drain(self, deadline_s: float) -> None:
        """Write all entries that have come, and wait for the rest of those that have come in part."""
        while True:
            ready = self._selector.select(0)
            if ready:
                self._take([key for key, _ in ready])
            elif time.monotonic() >= deadline_s or not any(each.held for each in self._connections.values()):
                return
            else:
                self._selector.select(0.02)

    def _take(self, keys: list[selectors.SelectorKey]) -> None:
        entries: list[Entry] = []
        for key in keys:
            if key.fileobj is self.listener:
                self._accept()
                continue
            connection: _Connection = key.data
            try:
                content = connection.socket.recv(_CHUNK_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                content = b""
            if content:
                entries += connection.entries(content)
            else:  # its process has closed it, or died: an unfinished entry was never put
                self._selector.unregister(connection.socket)
                connection.socket.close()
                del self._connections[key.fd]
        if entries:
            self._write(entries)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self.listener.accept()
                accepted.setblocking(False)
                connection = _Connection(accepted)
                self._connections[accepted.fileno()] = connection
                self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _write(self, entries: list[Entry]) -> None:
        """Write all of them, however long it takes: meanwhile nothing is read, so that producers wait."""
        said = False
        while True:
            try:
                self.reserve.take(sum(len(entry) for _, _, entry in entries))
                self.writer.write(entries)
                self._unwritten = True
                return
            except OSError as error:
                entries = self.writer.left or entries
                if self._is_ending() and time.monotonic() > self._ending_s + _GIVE_UP_S:
                    raise
                if not said:
                    print(
                        f"DataLogger: {str(error).removeprefix('DataLogger: ')}; trying again",
                        file=sys.stderr,
                        flush=True,
                    )
                    said = True
                time.sleep(_RETRY_S)

    def _is_ending(self) -> bool:
        """Return whether the logger was stopped, or the process that made it has died."""
        if not self._ending_s:
            try:
                os.read(self.parent, 1)
            except BlockingIOError:
                if os.getppid() == self._began_under:
                    return False
            self._ending_s = time.monotonic()
        return True

    def _sync(self, every_s: float) -> None:
        if self._unwritten and time.monotonic() - self._synced_s >= every_s:
            self.writer.sync()
            self._unwritten = False
            self._synced_s = time.monotonic()


def main() -> None:
    """Run with the arguments from the parent."""
    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops this process
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    directory = Path(settings["directory"])
    writer = EntryFiles(directory) if settings["layout"] == "files" else EntryLog(directory)
    listener = socket.socket(fileno=settings["listener"])
    reserve = Reserve("DataLogger", directory, settings["reserve_bytes"])
    process = LoggerProcess(listener, settings["parent"], writer, reserve)
    print("ready", flush=True)
    try:
        process.run()
    except Exception as error:
        print(f"DataLogger: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    print("done", flush=True)


if __name__ == "__main__":
    main()
