"""Arrays in the memory of channels: received ones, which keep their block in use, and those of `empty`."""

from __future__ import annotations

import os
from typing import Protocol

import attrs
import numpy as np

_DEEPEST = 16


class SharedSegment(Protocol):
    """Memory that can be passed on: its descriptor stays open as long as the object is referenced."""

    descriptor: int
    size: int


class Hold(Protocol):
    """An object that keeps a block of a producer in use, until it is garbage-collected."""

    @property
    def pid(self) -> int:
        """The id of the process that holds the block."""
        ...

    def pass_on(self) -> None:
        """Record, in advance, that the block is passed on to other processes, which may outlive this one."""
        ...

    def retire(self) -> None:
        """Prevent the producer from reusing the memory, since readers may exist that this process does not track."""
        ...


class Shared(np.ndarray[tuple[int], np.dtype[np.uint8]]):
    """A piece of shared memory, as (size,) uint8, which lives as long as any array made from it.

    Its buffer must be the mapping itself, not a view of an array: numpy skips such views when it keeps a base alive.

    Attributes:
        segment: The segment in which it lies; None for a view that numpy made.
        at: Its offset in the segment, in bytes.
        hold: The object that keeps a received block in use; None for own memory.
        owner: The producer whose memory it is; None for a received block.
    """

    segment: SharedSegment | None = None
    at: int = 0
    hold: Hold | None = None
    owner: object = None


@attrs.frozen(eq=False)
class Place:
    """The place of a buffer in shared memory; `at` is its offset in the segment, in bytes."""

    within: Shared
    at: int
    size: int


def place_of(buffer: memoryview, owner: object) -> Place | None:
    """Return the place of a buffer in memory of this owner or in a received block; None if it must be copied."""
    holder: object = buffer.obj
    for _ in range(_DEEPEST):
        if isinstance(holder, Shared) and holder.segment is not None:
            break
        holder = holder.obj if type(holder) is memoryview else getattr(holder, "base", None)
        if holder is None:
            return None
    else:
        return None
    ours = holder.owner is owner if holder.hold is None else holder.hold.pid == os.getpid()
    start = _address(np.frombuffer(buffer, np.uint8)) - _address(holder)
    if not ours or not 0 <= start <= holder.nbytes - buffer.nbytes:
        return None
    return Place(holder, holder.at + start, buffer.nbytes)


def _address(array: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
