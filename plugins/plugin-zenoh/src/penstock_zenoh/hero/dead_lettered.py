"""The listeners for dead letters, which the plugin's hook notifies. Imports nothing."""

from __future__ import annotations

from collections.abc import Callable

listeners: set[Callable[[str], None]] = set()
"""Called with the channel of each record that went to the dead letters."""


def tell(channel: str) -> None:
    """Notify all listeners of a dead letter of this channel."""
    for each in list(listeners):
        each(channel)
