"""WorkerComponent: the interface of a component that a worker process serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from penstock.link import Message
from penstock.run.process.messages import Reply


class WorkerComponent(Protocol):
    """A component at work in this process."""

    def open(self) -> Mapping[str, Any]:
        """Make and open the component; return the properties that the run must know."""
        ...

    def calls(self) -> Mapping[str, Callable[[Message], Reply]]:
        """Return the calls that the run may make, by name."""
        ...

    def close(self) -> None:
        """Close the component. Raises the component's errors."""
        ...

    def last_words(self) -> Mapping[str, Any]:
        """Return the final values that the component reports after `close`, even a failed one. Never raises."""
        ...
