"""The factory of edges: `ps.edge`."""

from __future__ import annotations

from penstock.compose.node import Edge
from penstock.compose.policies import Policy, PolicyWord
from penstock.suggestions import suggests_keywords


@suggests_keywords
def edge(
    *,
    capacity: int | None = None,
    capacity_bytes: int | None = None,
    when_full: Policy | PolicyWord | str = "block",
    expect_every_s: float | None = None,
) -> Edge:
    """Make the edge that the next `>>` uses.

    Args:
        capacity: The most records that it holds; None: 1024.
        capacity_bytes: The most bytes of data that it holds, unless it holds a single record; None: 64 MiB.
        when_full: A policy, or its name: "block", "drop_oldest", "drop_newest", "latest", `ps.Sample(10)` or
            "sample(10)", `ps.Spill("dir", max_bytes=…)` or "spill(dir, 20 GiB)"; see `Edge`.
        expect_every_s: Seconds without a record after which the watchdog reports the edge; None: never.

    Raises:
        ConfigError: an option is unknown or wrong.
    """
    return Edge(capacity=capacity, capacity_bytes=capacity_bytes, when_full=when_full, expect_every_s=expect_every_s)
