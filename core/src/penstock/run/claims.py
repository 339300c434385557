"""Claims: an object that a user passes in works in one run at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from penstock.compose.resolve import ResolvedNode
from penstock.errors import WiringError

_lock = threading.Lock()
_claimed: dict[int, tuple[Any, str]] = {}
"""The objects at work, by identity, each with the node that uses it."""


class Claims:
    """The user's own objects that one run uses. Any thread."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._own: dict[str, int] = {}

    def take(self, parts: Iterable[ResolvedNode]) -> None:
        """Claim the objects of these nodes, all or none. Raises WiringError if one is already in use."""
        own = {part.node.name or "": part for part in parts if part.own is not None}
        with _lock:
            for part in own.values():
                if id(part.own) in _claimed:
                    raise WiringError(
                        f"{part.where}: this {type(part.own).__qualname__} works in {_claimed[id(part.own)][1]} now, "
                        "and one object cannot work in two runs at once: give each run its own"
                    )
            for name, part in own.items():
                _claimed[id(part.own)] = part.own, f"node {name!r} of run {self._run!r}"
                self._own[name] = id(part.own)

    def drop(self, names: Iterable[str]) -> None:
        """Release the objects of these nodes."""
        with _lock:
            for name in names:
                _claimed.pop(self._own.pop(name, 0), None)

    @contextlib.contextmanager
    def exchanged(self, resolved: ResolvedNode) -> Iterator[None]:
        """Claim the object of a node that replaces another in this block; the old object is released after it.

        Raises:
            WiringError: it is already in use. After any error, the old object keeps its claim.
        """
        name = resolved.node.name or ""
        old = self._own.pop(name, None)
        try:
            self.take([resolved])
            yield
        except BaseException:
            self.drop([name])
            if old is not None:
                self._own[name] = old
            raise
        with _lock:
            _claimed.pop(old or 0, None)

    def drop_all(self, *, but: Collection[str] = ()) -> None:
        """Release all objects except those of these nodes, which an abandoned thread still uses."""
        self.drop([name for name in self._own if name not in but])
