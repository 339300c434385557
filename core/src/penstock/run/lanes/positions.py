"""Positions of sources: as a lane notes them, and as a store keeps them."""

from __future__ import annotations

from typing import Any

from penstock.run.steps.error_policy import ErrorPolicy
from penstock.source import SupportsKeep


def own_position(position: Any) -> Any:
    """Return a copy of a position that does not change when the source changes its own."""
    if isinstance(position, dict):
        return {key: own_position(value) for key, value in position.items()}
    return list(position) if isinstance(position, list) else position


def position_to_keep(source: Any, position: Any, error_policy: ErrorPolicy) -> Any:
    """Return a position as a store is to keep it: with what tells a later run whether it still applies."""
    if position is None or not isinstance(source, SupportsKeep):
        return position
    try:
        return own_position(source.to_keep(position))
    except BaseException as error:  # a source may raise anything; the position itself is valid
        error_policy.note(error)
        return position
