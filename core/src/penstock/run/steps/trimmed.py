"""trim: keep the traceback of an error short that is raised again and again, as a library's cached one is."""

from __future__ import annotations

from typing import Final

MOST_FRAMES: Final = 30
"""Entries that are kept, the innermost ones; each holds a frame with everything in it."""


def trim(error: BaseException) -> None:
    """Forget the outer entries of a traceback that has grown beyond MOST_FRAMES: each `raise` adds some in front."""
    first = last = error.__traceback__
    for _ in range(MOST_FRAMES):
        if last is None:
            return
        last = last.tb_next
    while last is not None and first is not None:
        first, last = first.tb_next, last.tb_next
    error.__traceback__ = first
