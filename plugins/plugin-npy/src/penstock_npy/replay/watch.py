"""Notifications of the operating system about files that change below a directory."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import attrs

from penstock.errors import SourceError

_STEP_MS = 20
_MOST_TOGETHER_MS = 100
_LOOK_MS = 200
_MOST_NAMES = 1000
"""The most changed names that are kept; beyond that, it is only known that something changed."""


@attrs.define(eq=False)
class Watch:
    """Collect the names of files that were made or changed, in a thread.

    Attributes:
        root: The directory.
        changed: Set when there is something to take.
    """

    root: Path
    changed: threading.Event
    _names: set[str] = attrs.field(factory=set, init=False)
    _is_new: bool = attrs.field(default=True, init=False)
    _error: Exception | None = attrs.field(default=None, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _stop: threading.Event = attrs.field(factory=threading.Event, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)

    def start(self) -> None:
        """Begin. Changes before the system listens are not reported: `take` then requests a full listing."""
        self._thread = threading.Thread(target=self._watch, name="npy-files-watch", daemon=True)
        self._thread.start()

    def take(self) -> set[str] | None:
        """Return the names that changed since the last call, below the root; None: anything may have changed.

        Raises:
            SourceError: the directory cannot be watched any longer.
        """
        with self._lock:
            if self._error is not None:
                raise SourceError(
                    f"{self.root}: cannot be watched: {self._error}; with poll_s=1.0 it is listed instead"
                ) from self._error
            names, self._names = self._names, set()
        return names if "" not in names else None

    def stop(self) -> None:
        """End the thread, any number of times."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        import watchfiles  # here: only needed to follow a directory

        try:
            found = watchfiles.watch(
                self.root,
                watch_filter=None,
                debounce=_MOST_TOGETHER_MS,
                step=_STEP_MS,
                rust_timeout=_LOOK_MS,
                yield_on_timeout=True,  # the first one says that the system listens
                stop_event=self._stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
            )
            for changes in found:
                names = {os.path.relpath(path, self.root) for _, path in changes}
                with self._lock:
                    self._names |= {name.replace(os.sep, "/") for name in names}
                    if self._is_new or len(self._names) > _MOST_NAMES:
                        self._names = {""}
                        self._is_new = False
                    has_some = bool(self._names)
                if has_some:
                    self.changed.set()
        except Exception as error:  # the library may raise anything; the thread that reads reports it
            with self._lock:
                self._error = error
            self.changed.set()
