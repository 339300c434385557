"""The producer's memory: blocks of about equal size in segments that grow in number as records need it."""

from __future__ import annotations

import mmap
import os
import time
from collections import deque
from collections.abc import Callable

import attrs
import numpy as np
import numpy.typing as npt

from penstock.errors import StoreError
from penstock_shm.control import MOST_BLOCKS
from penstock_shm.segment import map_segment, new_segment

_PAGE = 4096
_FIRST_BYTES = 1 << 20
_MOST_BYTES = 16 << 20
_IDLE_S = 10.0
"""Memory grows by a block at least, and by as much as there is, between these bounds: a new page costs the first frame
that comes to it more than copying does. What has not been used for so long makes room for blocks of another size."""


@attrs.define(eq=False)
class Segment:
    """Memory that holds blocks of one size; `descriptor` is what consumers are given to map it."""

    number: int
    size: int
    descriptor: int
    memory: npt.NDArray[np.uint8]
    blocks: list[Block] = attrs.field(factory=list)
    used_s: float = 0.0


@attrs.define(eq=False)
class Block:
    """A piece of a segment for one write: `memory` is (size,) uint8; `pins` counts the producer's own claims to it."""

    number: int
    segment: Segment
    offset: int
    size: int
    memory: npt.NDArray[np.uint8]
    pins: int = 0


def block_size(size: int) -> int:
    """Return the size of a block for `size` bytes: at most a quarter more, so that like records share."""
    size = max(size, _PAGE)
    step = max(_PAGE, 1 << (size.bit_length() - 3))
    return -(-size // step) * step


@attrs.define(eq=False)
class Pool:
    """Give out blocks and take them back; used under the producer's lock.

    Attributes:
        label: Whose memory it is, for messages.
        most_bytes: It never takes more than this; None: as long as the machine has memory.
        forget: Called with the number of each segment that is given up.
    """

    label: str
    most_bytes: int | None
    forget: Callable[[int], None]
    size_bytes: int = 0
    _segments: dict[int, Segment] = attrs.field(factory=dict)
    _free: dict[int, list[Block]] = attrs.field(factory=dict)
    _in_use: deque[Block] = attrs.field(factory=deque)
    _numbers: list[int] = attrs.field(factory=lambda: list(range(MOST_BLOCKS - 1, -1, -1)))
    _next_segment: int = 0

    def take(self, size: int, is_free: Callable[[Block], bool]) -> Block | None:
        """Return a block of at least `size` bytes, or None while there is neither a free one nor memory for more.

        Raises:
            StoreError: no memory, and nothing to wait for, since no block is in use.
        """
        wanted = block_size(size)
        while self._in_use and self._can_return(self._in_use[0], is_free):
            self._return(self._in_use.popleft())  # mostly they come back in order; the last one is still in the cache
        block = self._pop(wanted)
        if block is None:
            self._reclaim(is_free)
            block = self._pop(wanted)
        if block is None:
            try:
                self._shrink(_IDLE_S)
                self._grow(wanted)
            except StoreError:
                self._shrink(0.0)
                if self._in_use:
                    return self._last_resort(wanted)
                self._grow(wanted)
            block = self._pop(wanted)
        if block is not None:
            self._in_use.append(block)
            block.segment.used_s = time.monotonic()
        return block

    def in_use(self) -> list[Block]:
        """Return the blocks that were given out and not found free since."""
        return list(self._in_use)

    def close(self) -> None:
        """Let go of all memory. What consumers have mapped stays with them."""
        for segment in self._segments.values():
            os.close(segment.descriptor)
        self._segments.clear()
        self._free.clear()
        self._in_use.clear()

    def _pop(self, wanted: int) -> Block | None:
        if free := self._free.get(wanted):
            return free.pop()
        for size in sorted(self._free):
            if wanted <= size <= 4 * wanted and self._free[size]:
                return self._free[size].pop()
        return None

    def _reclaim(self, is_free: Callable[[Block], bool]) -> None:
        for _ in range(len(self._in_use)):
            block = self._in_use.popleft()
            if self._can_return(block, is_free):
                self._return(block)
            else:
                self._in_use.append(block)

    def _can_return(self, block: Block, is_free: Callable[[Block], bool]) -> bool:
        return block.pins == 0 and is_free(block)

    def _return(self, block: Block) -> None:
        self._free.setdefault(block.size, []).append(block)

    def _last_resort(self, wanted: int) -> Block | None:
        try:
            self._grow(wanted)
        except StoreError:
            return None
        block = self._pop(wanted)
        if block is not None:
            self._in_use.append(block)
        return block

    def _grow(self, size: int) -> None:
        held = sum(s.size for s in self._segments.values() if s.blocks[0].size == size)
        count = max(1, min(max(held, _FIRST_BYTES), _MOST_BYTES) // size)
        count = min(count, len(self._numbers))
        if self.most_bytes is not None:
            count = min(count, (self.most_bytes - self.size_bytes) // size)
        if count < 1 or not self._numbers:
            raise StoreError(
                f"{self.label}: {size} more bytes would exceed max_bytes={self.most_bytes} ({self.size_bytes} in use)"
            )
        try:
            descriptor = new_segment("penstock-channel", count * size)
        except StoreError:
            count = 1
            descriptor = new_segment("penstock-channel", size)
        mapped: mmap.mmap = map_segment(os.dup(descriptor), count * size, writable=True)
        memory = np.frombuffer(mapped, np.uint8)
        segment = Segment(self._next_segment, count * size, descriptor, memory)
        self._next_segment += 1
        for offset in range(0, count * size, size):
            block = Block(self._numbers.pop(), segment, offset, size, memory[offset : offset + size])
            segment.blocks.append(block)
        self._segments[segment.number] = segment
        self._free.setdefault(size, []).extend(reversed(segment.blocks))
        self.size_bytes += segment.size

    def _shrink(self, idle_s: float) -> None:
        """Give up the segments of which no block is in use or has lately been: records of another size have come."""
        busy = {block.segment.number for block in self._in_use}
        before_s = time.monotonic() - idle_s
        for number in [n for n, s in self._segments.items() if n not in busy and s.used_s <= before_s]:
            segment = self._segments.pop(number)
            size = segment.blocks[0].size
            self._free[size] = [b for b in self._free[size] if b.segment is not segment]
            self._numbers.extend(b.number for b in segment.blocks)
            self.size_bytes -= segment.size
            os.close(segment.descriptor)
            self.forget(number)
