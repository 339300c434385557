"""PipelineGraph: the interface of a pipeline for drawings and runs: its nodes, edges and options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from penstock.compose.node import Edge, Flow, Node
from penstock.compose.resolve import ResolvedNode

if TYPE_CHECKING:
    from penstock.plugins import Plugins


class PipelineGraph(Protocol):
    """A pipeline as seen by drawings and by a run."""

    @property
    def name(self) -> str:
        """The name in reports and dead letters."""
        ...

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, each with its name."""
        ...

    @property
    def edges(self) -> tuple[tuple[str, str, Edge], ...]:
        """All edges: (name before, name behind, edge)."""
        ...

    @property
    def names(self) -> Mapping[Node, str]:
        """The name of each node as the user made it."""
        ...

    @property
    def checkpoint_every_s(self) -> float:
        """Seconds between two checkpoints."""
        ...

    @property
    def dead_letters(self) -> str:
        """The directory under which a run keeps records that failed for good."""
        ...

    def flow(self) -> Flow:
        """Return the whole graph as one flow."""
        ...

    def parts(self, plugins: Plugins | None = None) -> dict[str, ResolvedNode]:
        """Resolve the nodes, by name. Raises WiringError, ConfigError, PluginError."""
        ...
