"""Shared memory to which a producer's block refers: arrays of `empty`, and arrays received from other channels."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from penstock_shm.channel.pool import Block, Segment
from penstock_shm.channel.shared import Shared, SharedSegment


class _Reserved(Shared):
    block: Block | None = None

    def __del__(self) -> None:
        if self.block is not None:
            self.block.is_reserved = False


def reserved(block: Block, size: int, owner: object) -> Shared:
    """Return the memory of a block, as (size,) uint8; the block is in use as long as an array in it exists."""
    memory = _Reserved((size,), np.uint8, buffer=block.segment.mapped, offset=block.offset)
    memory.segment, memory.at, memory.owner, memory.block = block.segment, block.offset, owner, block
    block.is_reserved = True
    return memory


def retire_elsewhere(block: Block) -> None:
    """Prevent reuse of the memory to which a block refers: its readers are no longer tracked."""
    for shared in block.elsewhere:
        if shared.hold is not None:
            shared.hold.retire()
    block.elsewhere = ()


class OtherSegments:
    """The numbers that identify segments to a producer's consumers; used under the producer's lock."""

    def __init__(self, new_number: Callable[[], int]) -> None:
        self._new_number = new_number
        self._numbers: weakref.WeakKeyDictionary[SharedSegment, int] = weakref.WeakKeyDictionary()
        self._gone: deque[int] = deque()

    def number_of(self, shared: Shared) -> int:
        """Return the number of the segment in which this memory lies."""
        segment = shared.segment
        if isinstance(segment, Segment):
            return segment.number
        assert segment is not None  # checked by place_of
        if segment not in self._numbers:
            self._numbers[segment] = number = self._new_number()
            weakref.finalize(segment, self._gone.append, number).atexit = False
        return self._numbers[segment]

    def take_gone(self) -> Iterator[int]:
        """Yield, once, the number of each segment that is no longer in use here."""
        while self._gone:
            yield self._gone.popleft()
