"""RunContext: the part of a run that its steps can see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from penstock.record import Record

if TYPE_CHECKING:
    from penstock.compose.resolve import ResolvedNode
    from penstock.plugins import Plugins


class RunContext(Protocol):
    """The run, as seen by a step and its error policy."""

    @property
    def aborting(self) -> bool:
        """Whether the run is being aborted."""
        ...

    @property
    def plugins(self) -> Plugins:
        """The plugins in which components are found."""
        ...

    @property
    def handle(self) -> Any:
        """The `Run` object that users hold, for a component that acts on it."""
        ...

    def pause(self, seconds: float) -> None:
        """Wait for these seconds, or until the run is aborted."""
        ...

    def dead_letter(self, resolved: ResolvedNode, record: Record, error: BaseException, tries: int) -> None:
        """Write a record that failed for good to the dead letters. Raises if that is not possible."""
        ...

    def given_up(self, resolved: ResolvedNode, record: Record) -> None:
        """Notify the sources that this node gives up a record, whether or not it is dead-lettered."""
        ...

    def fail(self, message: str, error: BaseException) -> None:
        """End the run: sources stop, lanes drain, and nothing more is committed. The report shows the message."""
        ...

    def trouble(self, message: str, error: BaseException) -> None:
        """Report an error that no single record caused; the run continues."""
        ...
