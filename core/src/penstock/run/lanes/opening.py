"""Opening: lanes open their components together, stores and processors first, sources last; all of them or none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from penstock.compose.resolve import ResolvedNode
from penstock.error_text import class_name, message_of
from penstock.errors import RunError
from penstock.run.edges.inbox import InboxEdge


class Opens(Protocol):
    """A lane that opens together with others."""

    @property
    def edges(self) -> Sequence[InboxEdge]:
        """The edges that it reads."""
        ...

    def open(self) -> None:
        """Open its components."""
        ...

    def open_source(self) -> None:
        """Open its source, if it has one, once the components of all lanes are open."""
        ...


class Opening:
    """Open several lanes in two steps, each lane waiting for the others; the thread that starts them waits too."""

    def __init__(self, lanes: Sequence[Opens]) -> None:
        self.errors: list[BaseException] = []
        self._well = True
        self._rendezvous = threading.Barrier(len(lanes) + 1, action=self._judge)

    def open(self, lane: Opens) -> bool:
        """Open this lane, then its source; return whether all lanes succeeded. Called in its thread."""
        well = False
        try:
            well = self._step(lambda: _open(lane)) and self._step(lane.open_source)
        finally:
            if not well:
                for edge in lane.edges:
                    edge.close()
        return well

    def wait(self) -> None:
        """Wait until all are open. Raises the first error; the lanes then close themselves."""
        try:
            if self._meet():
                self._meet()
        except BaseException:  # Ctrl-C while a component is slow to open: release the lanes, too
            self._rendezvous.abort()
            raise
        if self.errors:
            raise self.errors[0]

    def _step(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except BaseException as error:  # a component may raise anything; `wait` raises it
            self.errors.append(error)
        return self._meet()

    def _meet(self) -> bool:
        """Wait for the others; return, the same to all of them, whether none had failed when all had arrived."""
        try:
            self._rendezvous.wait()
        except threading.BrokenBarrierError:
            return False  # the start was interrupted
        return self._well

    def _judge(self) -> None:
        """Decide for all lanes at once: a fast lane may fail in the next step before others have checked this one."""
        self._well = not self.errors


def _open(lane: Opens) -> None:
    for edge in lane.edges:
        try:
            edge.open()
        except OSError as error:
            raise RunError(f"edge {edge.name}: cannot open: {error}") from error
    lane.open()


class opening:  # noqa: N801 - used in `with`, as a function of contextlib would be
    """Turn any exception of the block into a RunError that names the node.

    Not made with contextlib, which mistakes a RuntimeError caused by a StopIteration for its own, and drops it.
    """

    def __init__(self, resolved: ResolvedNode) -> None:
        self._resolved = resolved

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:  # see _step; a library may even call sys.exit
            said = message_of(error) or class_name(error)
            raise RunError(f"{self._resolved.where}: cannot open: {said}") from error
