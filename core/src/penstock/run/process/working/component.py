"""WorkerComponent: what the worker side needs of a component that it serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from penstock.link import Message
from penstock.run.process.messages import Reply


class WorkerComponent(Protocol):
    """A component at work in this process."""

    def open(self) -> Mapping[str, Any]:
        """Make and open the component; return what the run must know of it."""
        ...

    def calls(self) -> Mapping[str, Callable[[Message], Reply]]:
        """Return what may be asked of it, by name."""
        ...

    def close(self) -> None:
        """Close the component. Raises what that raises."""
        ...
