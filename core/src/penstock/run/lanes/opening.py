"""Opening: all lanes open what they hold, stores and processors first, sources last; all of them or none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from penstock.compose.resolve import ResolvedNode
from penstock.error_text import class_name, message_of
from penstock.errors import RunError
from penstock.run.edges.inbox import InboxEdge


class Opens(Protocol):
    """What opens together with others: a lane, as seen from here."""

    @property
    def edges(self) -> Sequence[InboxEdge]:
        """The edges that it reads."""
        ...

    def open(self) -> None:
        """Open its components."""
        ...

    def open_source(self) -> None:
        """Open its source, if it has one, once the components of all are open."""
        ...


class Opening:
    """Let the threads of several lanes open in two steps, each waiting for the others; the starter waits too."""

    def __init__(self, lanes: Sequence[Opens]) -> None:
        self.errors: list[BaseException] = []
        self._well = True
        self._rendezvous = threading.Barrier(len(lanes) + 1, action=self._judge)

    def open(self, lane: Opens) -> bool:
        """Open this lane, then its source; return whether all lanes could. Called in its thread."""
        well = False
        try:
            well = self._step(lambda: _open(lane)) and self._step(lane.open_source)
        finally:
            if not well:
                for edge in lane.edges:
                    edge.close()
        return well

    def wait(self) -> None:
        """Wait until all are open. Raises the first error; the lanes close again by themselves."""
        try:
            if self._meet():
                self._meet()
        except BaseException:  # Ctrl-C while a component takes its time: let the lanes go, too
            self._rendezvous.abort()
            raise
        if self.errors:
            raise self.errors[0]

    def _step(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except BaseException as error:  # a component may raise anything; the starter raises it again
            self.errors.append(error)
        return self._meet()

    def _meet(self) -> bool:
        """Wait for the others; return what all of them are told: whether nobody had failed when all had come."""
        try:
            self._rendezvous.wait()
        except threading.BrokenBarrierError:
            return False  # the start was interrupted
        return self._well

    def _judge(self) -> None:
        """Decide for all lanes: one that continues may fail in the next step before others have checked this one."""
        self._well = not self.errors


def _open(lane: Opens) -> None:
    for edge in lane.edges:
        try:
            edge.open()
        except OSError as error:
            raise RunError(f"edge {edge.name}: cannot open: {error}") from error
    lane.open()


class opening:  # noqa: N801 - used in `with`, as a function of contextlib would be
    """Say which node could not be opened: whatever comes out of the block is a RunError.

    Not made with contextlib: that takes a RuntimeError because of a StopIteration for its own, and drops it.
    """

    def __init__(self, resolved: ResolvedNode) -> None:
        self._part = resolved

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:  # see _step; a library may even call sys.exit
            said = message_of(error) or class_name(error)
            raise RunError(f"{self._part.where}: cannot open: {said}") from error
