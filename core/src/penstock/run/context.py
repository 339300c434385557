"""RunContext: what a component at work may ask of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from penstock.record import Record

if TYPE_CHECKING:
    from penstock.compose.resolve import ResolvedNode
    from penstock.plugins import Plugins


class RunContext(Protocol):
    """What a step and its error policy see of their run."""

    @property
    def aborting(self) -> bool:
        """Whether the run is being aborted."""
        ...

    @property
    def plugins(self) -> Plugins:
        """Where components are found."""
        ...

    @property
    def handle(self) -> Any:
        """The run as its users hold it, for a component that acts on it."""
        ...

    def dead_letter(self, resolved: ResolvedNode, record: Record, error: BaseException, tries: int) -> None:
        """Keep a record that failed for good. Raises if that is not possible."""
        ...

    def fail(self, message: str, error: BaseException) -> None:
        """End the run: sources stop, lanes drain, and nothing more is committed. The report shows the message."""
        ...

    def trouble(self, message: str, error: BaseException) -> None:
        """Report an error that is no single record's fault; the run goes on."""
        ...
