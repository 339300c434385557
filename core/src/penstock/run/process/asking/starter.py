"""Starting a process that does not outlive this one, whatever it is doing."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from typing import Any


class Starter:
    """A thread that starts a process and lives as long as that does.

    Linux kills a process whose parent has ended, if it asks for that (`end_with_parent`); and it takes the thread that
    started it for its parent. So the thread has to stay.
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
        """Let the thread end; the process is killed by that if it still runs. Any number of times."""
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
