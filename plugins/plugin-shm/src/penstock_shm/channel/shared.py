"""Arrays in the memory of channels: received ones, which keep their block in use, and empty ones that are filled."""

from __future__ import annotations

import os
from typing import Protocol

import attrs
import numpy as np

_DEEPEST = 16


class SharedSegment(Protocol):
    """Memory that can be passed on: its descriptor stays open as long as it is referred to."""

    descriptor: int
    size: int


class Hold(Protocol):
    """An object that keeps a block of a producer in use, until it is garbage-collected."""

    @property
    def pid(self) -> int:
        """The process in which it counts."""
        ...

    def pass_on(self) -> None:
        """Note that others have been given the block, before they are: they may outlive this process."""
        ...

    def retire(self) -> None:
        """Prevent the producer from reusing the memory, since others may read it when this process does not watch."""
        ...


class Shared(np.ndarray[tuple[int], np.dtype[np.uint8]]):
    """A piece of shared memory, as (size,) uint8; arrays made from it refer to it, so that it lives as long as they do.

    Its buffer must be the mapping itself, not a view of an array: numpy skips such views when it keeps a base alive.

    Attributes:
        segment: The memory in which it lies; None for a view that numpy made.
        at: Where it starts there, in bytes.
        hold: What keeps the block in use if it was received.
        owner: Whose memory it is if it was not.
    """

    segment: SharedSegment | None = None
    at: int = 0
    hold: Hold | None = None
    owner: object = None


@attrs.frozen(eq=False)
class Place:
    """Where a buffer lies in shared memory: `at` is its offset in the segment, in bytes."""

    within: Shared
    at: int
    size: int


def place_of(buffer: memoryview, owner: object) -> Place | None:
    """Return where a buffer lies, if that is memory of this owner, or was received; None if it has to be copied."""
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
