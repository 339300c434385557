"""The page that a producer shares with one consumer: what was taken, and which blocks are in whose hands.

Each field has one writer, except a block's flag, which the producer sets before it sends the block and the consumer
clears when it lets go. Neither side waits for a lock of the other's, so that no death can leave one taken.
"""

from __future__ import annotations

import mmap

from penstock_shm.segment import map_segment

SIZE = 65_536
FREE, SENT, HELD = 0, 1, 2

_STARVED, _LEAVING, _FLAGS = 48, 56, 64
_TAKEN_BLOCKS, _TAKEN_RECORDS, _BEGUN_RECORDS, _WAKE_AT = 0, 1, 2, 3

MOST_BLOCKS = SIZE - _FLAGS


class Control:
    """One such page, mapped into this process."""

    __slots__ = ("_bytes", "_words")

    def __init__(self, descriptor: int) -> None:
        """Map the page behind this descriptor, and close the descriptor."""
        mapped: mmap.mmap = map_segment(descriptor, SIZE, writable=True)
        self._bytes = memoryview(mapped)
        self._words = self._bytes[:_STARVED].cast("Q")

    @property
    def taken_blocks(self) -> int:
        """How many blocks the consumer has taken out of its socket."""
        return self._words[_TAKEN_BLOCKS]

    @property
    def taken_records(self) -> int:
        """How many records those blocks held, or the consumer skipped with its consent."""
        return self._words[_TAKEN_RECORDS]

    def take(self, blocks: int, records: int) -> None:
        """Set both counts; the consumer does."""
        self._words[_TAKEN_RECORDS] = records
        self._words[_TAKEN_BLOCKS] = blocks

    @property
    def begun_records(self) -> int:
        """How many records the producer has begun to write; more than came if it died in between."""
        return self._words[_BEGUN_RECORDS]

    def begin(self, records: int) -> None:
        """Set that count; the producer does."""
        self._words[_BEGUN_RECORDS] = records

    @property
    def starved(self) -> bool:
        """Whether the producer waits for this consumer to let go of something, and wants to be woken."""
        return self._bytes[_STARVED] == 1

    @property
    def sated(self) -> bool:
        """Whether the producer waits for this consumer to take more, and it has taken so much."""
        return self._bytes[_STARVED] != 0 and self._words[_TAKEN_BLOCKS] >= self._words[_WAKE_AT]

    def starve(self, wake_at: int = 0) -> None:
        """Ask to be woken when the consumer has taken `wake_at` blocks in all; 0: whenever it lets go of one."""
        self._words[_WAKE_AT] = wake_at
        self._bytes[_STARVED] = 2 if wake_at else 1

    def feed(self) -> None:
        """Say that the producer no longer waits, or has been woken."""
        self._bytes[_STARVED] = 0

    @property
    def leaving(self) -> bool:
        """Whether the consumer wants nothing more; it may still hold blocks."""
        return bool(self._bytes[_LEAVING])

    def leave(self) -> None:
        """Say that this consumer wants nothing more."""
        self._bytes[_LEAVING] = 1

    def flag(self, block: int) -> int:
        """Return FREE, SENT or HELD."""
        return self._bytes[_FLAGS + block]

    def set_flag(self, block: int, flag: int) -> None:
        """Set what `flag` returns."""
        self._bytes[_FLAGS + block] = flag
