"""The producer's memory: blocks of similar size in segments, whose number grows as records need it."""

from __future__ import annotations

import math
import mmap
import os
import time
from collections import deque
from collections.abc import Callable, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from penstock.errors import StoreError
from penstock_shm.channel.control import MOST_BLOCKS
from penstock_shm.channel.shared import Shared
from penstock_shm.segment import map_segment, new_segment

_PAGE = 4096
_FIRST_BYTES = 1 << 20
_MOST_BYTES = 16 << 20
"""Memory grows by at least one block, and doubles between these bounds: allocating new pages for a frame takes longer
than copying it."""

_IDLE_S = 10.0
"""Seconds after which an unused segment is released for blocks of another size."""

_LOOKED_THROUGH = 64
"""Number of referring blocks that each write checks, since producers may wait for the memory they refer to."""

READY_BYTES = 8 << 20
"""Bytes allocated before the first record, so that a frame of that size does not wait."""


@attrs.define(eq=False)
class Segment:
    """Memory divided into blocks of one size, or undivided; consumers map it by its `descriptor`."""

    number: int
    size: int
    descriptor: int
    mapped: mmap.mmap
    memory: npt.NDArray[np.uint8]
    blocks: list[Block] = attrs.field(factory=list)
    used_s: float = 0.0

    def close(self) -> None:
        """Close the descriptor, and free the memory here with the last array in it."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        self.blocks.clear()  # blocks refer to the segment: break the cycle to free the memory now

    def __del__(self) -> None:
        self.close()


@attrs.define(eq=False)
class Block:
    """A piece of a segment for one write: `memory` is (size,) uint8.

    Attributes:
        pins: Number of the producer's own references to it.
        is_reserved: Whether an array of `empty` lies in it.
        elsewhere: Other shared memory to which it refers, kept as long as the block is in use.
    """

    number: int
    segment: Segment
    offset: int
    size: int
    memory: npt.NDArray[np.uint8]
    pins: int = 0
    is_reserved: bool = False
    elsewhere: Sequence[Shared] = ()


def new_memory(label: str, size: int) -> Segment:
    """Return a new segment without blocks. Slow; needs no lock. Raises StoreError if there is no memory."""
    size = -(-size // _PAGE) * _PAGE
    descriptor = new_segment(label, size)
    try:
        mapped = map_segment(os.dup(descriptor), size, writable=True)
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"{label}: {size} bytes cannot be mapped ({error.strerror or error}; ulimit -n)") from error
    return Segment(-1, size, descriptor, mapped, np.frombuffer(mapped, np.uint8))


def _ignore(_: int) -> None:
    """Do nothing: no consumer is left to notify."""


def block_size(size: int) -> int:
    """Return the size of a block for `size` bytes: at most a quarter more, so that similar records share blocks."""
    if size <= _PAGE:
        return _PAGE
    step = max(_PAGE, 1 << (size.bit_length() - 3))
    return -(-size // step) * step


@attrs.define(eq=False)
class Pool:
    """Allocate and reclaim blocks; used under the producer's lock.

    Attributes:
        label: Name of the channel, for messages.
        most_bytes: Upper limit of memory; None: the available memory of the machine.
        forget: Called with the number of each released segment.
        wish_bytes: Bytes that the owner should allocate with `new_memory` and pass to `keep_ready`; 0: none.
    """

    label: str
    most_bytes: int | None
    forget: Callable[[int], None]
    size_bytes: int = 0
    wish_bytes: int = 0
    ready: Segment | None = None
    _segments: dict[int, Segment] = attrs.field(factory=dict)
    _free: dict[int, list[Block]] = attrs.field(factory=dict)
    _in_use: deque[Block] = attrs.field(factory=deque)
    _referring: deque[Block] = attrs.field(factory=deque)
    _retired: list[Block] = attrs.field(factory=list)
    _numbers: list[int] = attrs.field(factory=lambda: list(range(MOST_BLOCKS - 1, -1, -1)))
    _next_segment: int = 0

    def take(self, size: int, is_free: Callable[[Block], bool]) -> Block | None:
        """Return a block of at least `size` bytes, or None while there is neither a free one nor memory for more.

        Raises:
            StoreError: there is no memory, and no block is in use that could be waited for.
        """
        wanted = block_size(size)
        if self._retired:
            self._forget_retired(is_free)
        if self._referring:  # before the blocks to which they refer, in any order: producers may wait for that memory
            self._look_through(self._referring, _LOOKED_THROUGH, is_free)
        while self._in_use and self._can_return(self._in_use[0], is_free):
            self._return(self._in_use.popleft())  # blocks mostly return in order; the last one is still in the cache
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
                if self._in_use or self._referring:
                    return self._last_resort(wanted)
                self._grow(wanted)
            block = self._pop(wanted)
        if block is not None:
            self._in_use.append(block)
            block.segment.used_s = time.monotonic()
        return block

    def keep_ready(self, segment: Segment) -> None:
        """Keep a segment until the next one is needed."""
        self.wish_bytes = 0
        self.ready = self._numbered(segment)

    def in_use(self) -> list[Block]:
        """Return the blocks that are allocated and were not yet found free."""
        return [*self._referring, *self._in_use, *self._retired]

    def refer(self, block: Block, elsewhere: Sequence[Shared]) -> None:
        """Make a block in use refer to other shared memory."""
        block.elsewhere = elsewhere
        self._in_use.remove(block)
        self._referring.append(block)

    def new_number(self) -> int:
        """Return a number for a segment of another pool."""
        self._next_segment += 1
        return self._next_segment - 1

    def retire(self, segment: Segment) -> None:
        """Never reuse the memory of a segment: unknown processes may read it.

        The kernel frees it when the last process has unmapped it.
        """
        if self._segments.pop(segment.number, None) is None:
            return
        size = segment.blocks[0].size
        self._numbers.extend(block.number for block in self._free[size] if block.segment is segment)
        self._free[size] = [block for block in self._free[size] if block.segment is not segment]
        for blocks in (self._referring, self._in_use):
            for _ in range(len(blocks)):
                block = blocks.popleft()
                (self._retired if block.segment is segment else blocks).append(block)
        self.size_bytes -= segment.size
        segment.blocks.clear()
        self.forget(segment.number)

    def _forget_retired(self, is_free: Callable[[Block], bool]) -> None:
        """Reuse the numbers of retired blocks that are no longer held."""
        done = [block for block in self._retired if self._can_return(block, is_free)]
        self._retired = [block for block in self._retired if block not in done]
        self._numbers.extend(block.number for block in done)

    def close(self) -> None:
        """Release all memory. Memory that consumers have mapped stays with them."""
        for segment in (*self._segments.values(), *([self.ready] if self.ready else ())):
            segment.close()
        self.ready = None
        self._segments.clear()
        self._free.clear()
        self._in_use.clear()
        self._referring.clear()
        self._retired.clear()
        self.forget = _ignore  # breaks the reference cycle with the owner

    def _pop(self, wanted: int) -> Block | None:
        if free := self._free.get(wanted):
            return free.pop()
        for size in sorted(self._free):
            if wanted <= size <= 4 * wanted and self._free[size]:
                return self._free[size].pop()
        return None

    def _reclaim(self, is_free: Callable[[Block], bool]) -> None:
        for blocks in (self._referring, self._in_use):
            self._look_through(blocks, len(blocks), is_free)

    @property
    def refers(self) -> bool:
        """Whether a block in use refers to other shared memory, for which a producer may wait."""
        return bool(self._referring)

    def take_back(self, is_free: Callable[[Block], bool]) -> bool:
        """Reclaim referring blocks that no consumer holds; return whether there were any."""
        before = len(self._referring)
        self._look_through(self._referring, _LOOKED_THROUGH, is_free)
        return len(self._referring) < before

    def _look_through(self, blocks: deque[Block], most: int, is_free: Callable[[Block], bool]) -> None:
        """Reclaim the free ones among the first `most` blocks; move the others to the end."""
        for _ in range(min(most, len(blocks))):
            block = blocks.popleft()
            if self._can_return(block, is_free):
                self._return(block)
            else:
                blocks.append(block)

    def _can_return(self, block: Block, is_free: Callable[[Block], bool]) -> bool:
        return block.pins == 0 and not block.is_reserved and is_free(block)

    def _return(self, block: Block) -> None:
        block.elsewhere = ()
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
        segment, self.ready = self.ready, None
        if segment is not None and (segment.size < size or segment.size > self._left()):
            self._give_up(segment)
            segment = None
        if segment is None:
            wanted = self._next_bytes(size)
            if not wanted or not self._numbers:
                raise StoreError(
                    f"{self.label}: {size} more bytes would exceed max_bytes={self.most_bytes} "
                    f"({self.size_bytes} in use)"
                )
            try:
                segment = new_memory("penstock-channel", wanted)
            except StoreError:
                segment = new_memory("penstock-channel", size)
            self._numbered(segment)
        self._divide(segment, size)
        wish = self._next_bytes(size)
        self.wish_bytes = wish if wish <= _MOST_BYTES else 0

    def _numbered(self, segment: Segment) -> Segment:
        segment.number = self._next_segment
        self._next_segment += 1
        return segment

    def _left(self) -> float:
        return math.inf if self.most_bytes is None else self.most_bytes - self.size_bytes

    def _next_bytes(self, size: int) -> int:
        """Return the bytes by which to grow for blocks of this size; 0 if the limit does not allow it."""
        held = sum(s.size for s in self._segments.values() if s.blocks[0].size == size)
        count = max(1, min(max(held, _FIRST_BYTES), _MOST_BYTES) // size)
        return int(min(count * size, self._left() // size * size))

    def _divide(self, segment: Segment, size: int) -> None:
        for offset in range(0, segment.size - size + 1, size):
            if self._numbers:
                memory = segment.memory[offset : offset + size]
                segment.blocks.append(Block(self._numbers.pop(), segment, offset, size, memory))
        self._segments[segment.number] = segment
        self._free.setdefault(size, []).extend(reversed(segment.blocks))
        self.size_bytes += segment.size

    def _give_up(self, segment: Segment) -> None:
        segment.close()
        self.forget(segment.number)

    def _shrink(self, idle_s: float) -> None:
        """Release the segments whose blocks have not been used for `idle_s`: record sizes have changed."""
        busy = {block.segment.number for block in self.in_use()}
        before_s = time.monotonic() - idle_s
        for number in [n for n, s in self._segments.items() if n not in busy and s.used_s <= before_s]:
            segment = self._segments.pop(number)
            size = segment.blocks[0].size
            self._free[size] = [b for b in self._free[size] if b.segment is not segment]
            self._numbers.extend(b.number for b in segment.blocks)
            self.size_bytes -= segment.size
            self._give_up(segment)
