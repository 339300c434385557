"""Starter: starts a process that never outlives this one."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from typing import Any


class Starter:
    """A thread that starts a process and lives as long as the process.

    Linux kills a process when its parent ends, if the process asks for that (`end_with_parent`); the parent is the
    thread that started the process. So the thread has to stay alive.
    """

    def __init__(self, arguments: Sequence[str], **options: Any) -> None:
        """Start the process. Raises what `subprocess.Popen` raises."""
        self._end = threading.Event()
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._process: subprocess.Popen[Any] | None = None
        self._thread = threading.Thread(
            target=self._work, args=(list(arguments), options), name="penstock: parent of a process", daemon=True
        )
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    @property
    def process(self) -> subprocess.Popen[Any]:
        """The process."""
        assert self._process is not None  # or the constructor has raised
        return self._process

    def close(self) -> None:
        """End the thread; this kills the process if it still runs. May be called more than once."""
        self._end.set()
        self._thread.join()

    def _work(self, arguments: Sequence[str], options: Any) -> None:
        try:
            self._process = subprocess.Popen(arguments, **options)
        except BaseException as error:  # the caller raises it
            self._error = error
        finally:
            self._started.set()
        if self._process is not None:
            self._end.wait()
