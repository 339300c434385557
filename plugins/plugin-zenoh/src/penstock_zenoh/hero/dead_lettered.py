"""Who wants to know of dead letters: the plugin's hook tells them. Imports nothing."""

from __future__ import annotations

from collections.abc import Callable

listeners: set[Callable[[str], None]] = set()
"""Called with the channel of each record that went to the dead letters."""


def tell(channel: str) -> None:
    """Tell all of a dead letter of this channel."""
    for each in list(listeners):
        each(channel)
