"""trim: shorten the traceback of an error that is raised repeatedly, like an error object that a library caches."""

from __future__ import annotations

from typing import Final

MOST_FRAMES: Final = 30
"""The number of innermost entries to keep; each holds a frame with all of its objects."""


def trim(error: BaseException) -> None:
    """Drop the outer entries of a traceback that has grown beyond MOST_FRAMES: each `raise` adds some in front."""
    first = last = error.__traceback__
    for _ in range(MOST_FRAMES):
        if last is None:
            return
        last = last.tb_next
    while last is not None and first is not None:
        first, last = first.tb_next, last.tb_next
    error.__traceback__ = first
