"""DataLogger: entries from many processes, written by a process of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from penstock.arguments import checks_arguments
from penstock.errors import ConfigError, StoreError
from penstock_npy.compress import Compressed, compress_npy_logs
from penstock_npy.logger_queue import BUFFER_BYTES, LoggerQueue

_START_S = 30.0


class DataLogger:
    """Accept entries from any process, and write them in a process of its own.

    All entries that were put before `stop` are on the disk when it returns. A producer that is too fast for the disk
    waits in `put`, which raises LoggerFullError after `put_timeout_s`. If the process that made the logger dies, the
    writer process ends too, after it has written all entries that were put. Linux and macOS.

    Args:
        output_directory: The directory in which `<instance_name>_data_log` is made.
        instance_name: Distinguishes loggers in one directory.
        layout: "files" writes one `.npy` for each entry, (9 + n,) uint8: source id, time, payload. "log" appends to
            one file for each source, which is many times faster.
        put_timeout_s: How long `put` may wait for the disk.
        reserve_bytes: Bytes to keep free on the disk. Before there are fewer, the writer process waits as if the disk
            were full, and prints the sizes on stderr; so does `put`, once its buffers are full.

    Raises:
        ConfigError: a setting is wrong.
    """

    @checks_arguments
    def __init__(
        self,
        output_directory: Path,
        instance_name: str = "data_logger",
        *,
        layout: Literal["files", "log"] = "files",
        put_timeout_s: float = 30.0,
        reserve_bytes: int = 0,
    ) -> None:
        if not instance_name or "/" in instance_name or "\0" in instance_name or instance_name in (".", ".."):
            raise ConfigError(f"DataLogger: instance_name {instance_name!r} cannot be part of a directory's name")
        if layout not in ("files", "log"):
            raise ConfigError(f"DataLogger: layout {layout!r} is neither 'files' nor 'log'")
        if type(reserve_bytes) is not int or reserve_bytes < 0:
            raise ConfigError(f"DataLogger: reserve_bytes {reserve_bytes!r} is not a number of bytes")
        if not hasattr(socket, "AF_UNIX") or os.name == "nt":
            raise ConfigError("DataLogger: works on Linux and macOS; use the npy-log store in a pipeline")
        self._directory = Path(output_directory) / f"{instance_name}_data_log"
        self._layout = layout
        self._reserve_bytes = reserve_bytes
        # A path of a socket has at most 104 bytes, so it cannot be in the output directory.
        self._place = Path(tempfile.mkdtemp(prefix="penstock-log-"))
        self._queue = LoggerQueue(self._place / "s", put_timeout_s)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._life = -1
        self._pid = os.getpid()
        self._finalizer = weakref.finalize(self, _remove, self._place, os.getpid())

    @property
    def output_directory(self) -> Path:
        """The directory that holds the entries: `…/<instance_name>_data_log`."""
        return self._directory

    @property
    def input_queue(self) -> LoggerQueue:
        """The queue for entries; it may be passed to any process."""
        return self._queue

    @property
    def alive(self) -> bool:
        """Whether the writer process is at work."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the writer process; does nothing if it is at work. May be called again after `stop`.

        Raises:
            StoreError: the directory cannot be made or written to, or the process does not start.
        """
        with self._lock:
            if self.alive:
                return
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
                if not os.access(self._directory, os.W_OK | os.X_OK):
                    raise PermissionError(f"{self._directory} may not be written to")
            except OSError as error:
                raise StoreError(f"DataLogger: {error}; use another output_directory", retryable=False) from error
            self._start()

    def _start(self) -> None:
        address = os.fspath(self._queue.address)
        self._place.mkdir(mode=0o700, exist_ok=True)
        Path(address).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            listener.bind(address)
            listener.listen(1024)
            parent, self._life = os.pipe()
            settings = {
                "directory": os.fspath(self._directory.absolute()),
                "layout": self._layout,
                "reserve_bytes": self._reserve_bytes,
                "listener": listener.fileno(),
                "parent": parent,
            }
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "penstock_npy.logger_process", json.dumps(settings)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                    pass_fds=(listener.fileno(), parent),
                    start_new_session=True,
                )
            except BaseException:
                os.close(self._life)
                raise
            finally:
                os.close(parent)
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            code = self._end()
            raise StoreError(f"DataLogger: the process that writes did not start (exit status {code})")

    def stop(self) -> None:
        """Return when all entries are on the disk, and the writer process has ended.

        Does nothing if it is not started.

        Raises:
            StoreError: the writer process has died, or could not write all entries; its messages are on stderr.
        """
        with self._lock:
            if self._process is None or os.getpid() != self._pid:
                return
            code = self._end()
            self._queue.close()
            Path(self._queue.address).unlink(missing_ok=True)
        if code:
            raise StoreError(f"DataLogger: not everything was written: the process ended with status {code}")

    def _end(self) -> int:
        process = self._process
        assert process is not None
        with contextlib.suppress(BrokenPipeError):  # it has died
            os.write(self._life, b"s")  # it writes all entries, and ends
        os.close(self._life)
        code = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self._process = None
        return code

    def compress_logs(self, remove_sources: bool = False, **options: Any) -> Compressed:
        """Gather the entries of each source in one `.npz`; see `compress_npy_logs`.

        Raises:
            StoreError: the logger is at work; or as `compress_npy_logs`.
        """
        if self.alive:
            raise StoreError("DataLogger: call stop() before compress_logs()", retryable=False)
        return compress_npy_logs(self._directory, remove_sources, **options)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None and os.getpid() == self._pid:
            self.stop()

    def __repr__(self) -> str:
        return f"DataLogger({os.fspath(self._directory)!r}, layout={self._layout!r}, alive={self.alive})"


def _remove(place: Path, pid: int) -> None:
    if os.getpid() == pid:  # not in a child that was forked
        shutil.rmtree(place, ignore_errors=True)
