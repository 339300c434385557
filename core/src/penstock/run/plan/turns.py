"""Turns: one thread at a time changes a run, and no thread that would wait for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from penstock.errors import RunError

AGAIN_S: Final = 0.1
"""Seconds after which a waiting thread checks whether the current change waits for that thread."""


class Turns:
    """Let one thread at a time change a run. Any thread.

    A component may have a thread of its own that changes the run (a control channel). That thread may take a turn,
    but not remove its own component, whose `flush` or `close` waits for the thread.

    Args:
        run: The name of the run, for errors.
        may: Raises RunError if the run can no longer be changed.
        in_lane: Returns whether a change may wait for the current thread.
    """

    def __init__(self, run: str, *, may: Callable[[], None], in_lane: Callable[[], bool]) -> None:
        self._run = run
        self._may = may
        self._in_lane = in_lane
        self._lock = threading.Lock()
        self._helpers: WeakKeyDictionary[threading.Thread, Any] = WeakKeyDictionary()
        self._leaving: Sequence[Any] = ()

    def act_for(self, component: Any) -> None:
        """Note that the current thread works for this component."""
        self._helpers[threading.current_thread()] = component

    @property
    def is_helper(self) -> bool:
        """Whether the current thread works for a component."""
        return threading.current_thread() in self._helpers

    def __enter__(self) -> None:
        """Wait for a turn. Raises RunError if the change under way may wait for this thread, or what `may` raises."""
        in_lane = self._in_lane()
        while not self._lock.acquire(timeout=0 if in_lane else AGAIN_S):
            self._may()
            if in_lane or self._is_for(self._leaving):
                raise RunError(
                    f"run {self._run!r} is being changed by another thread that waits for this one: try again"
                )
        try:
            self._may()
        except RunError:
            self._lock.release()
            raise

    def leaving(self, components: Sequence[Any]) -> None:
        """Note the components that the change waits for. Raises RunError if the current thread works for one."""
        if self._is_for(components):
            raise RunError(
                f"run {self._run!r}: the caller is among the nodes to remove, and would wait for its own end: "
                "ask from outside the run"
            )
        self._leaving = components

    def __exit__(self, *_: object) -> None:
        self._leaving = ()
        self._lock.release()

    def _is_for(self, components: Sequence[Any]) -> bool:
        helped = self._helpers.get(threading.current_thread())
        return helped is not None and any(helped is component for component in components)
