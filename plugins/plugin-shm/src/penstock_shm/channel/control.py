"""The page that a producer shares with one consumer: counters, and the state of each block.

Each field has one writer, except a block's flag, which the producer sets before it sends the block and the consumer
clears when it releases the block. The sides share no lock, so that no death can leave one locked.
"""

from __future__ import annotations

import mmap

from penstock_shm.segment import map_segment

SIZE = 65_536
FREE, SENT, HELD = 0, 1, 2

_WAITING, _LEAVING, _FORWARDS, _FLAGS = 48, 56, 57, 64
_TAKEN_BLOCKS, _TAKEN_RECORDS, _BEGUN_RECORDS, _WAKE_AT = 0, 1, 2, 3

MOST_BLOCKS = SIZE - _FLAGS


class Control:
    """A control page, mapped into this process."""

    __slots__ = ("_bytes", "_words")

    def __init__(self, descriptor: int) -> None:
        """Map the page behind this descriptor, and close the descriptor."""
        mapped: mmap.mmap = map_segment(descriptor, SIZE, writable=True)
        self._bytes = memoryview(mapped)
        self._words = self._bytes[:_WAITING].cast("Q")

    @property
    def taken_blocks(self) -> int:
        """Number of blocks that the consumer has read from its socket."""
        return self._words[_TAKEN_BLOCKS]

    @property
    def taken_records(self) -> int:
        """Number of records in those blocks, including the ones a `latest` consumer skipped."""
        return self._words[_TAKEN_RECORDS]

    def take(self, blocks: int, records: int) -> None:
        """Set both counters; called by the consumer."""
        self._words[_TAKEN_RECORDS] = records
        self._words[_TAKEN_BLOCKS] = blocks

    @property
    def begun_records(self) -> int:
        """Number of records that the producer has begun to write; exceeds the number sent if it died while writing."""
        return self._words[_BEGUN_RECORDS]

    def begin(self, records: int) -> None:
        """Set `begun_records`; called by the producer."""
        self._words[_BEGUN_RECORDS] = records

    @property
    def wants_free_block(self) -> bool:
        """Whether the producer waits for this consumer to release any block."""
        return self._bytes[_WAITING] == 1

    @property
    def has_taken_enough(self) -> bool:
        """Whether the producer waits for this consumer to read more, and it has read enough."""
        return self._bytes[_WAITING] != 0 and self._words[_TAKEN_BLOCKS] >= self._words[_WAKE_AT]

    def request_wake(self, wake_at: int = 0) -> None:
        """Request a wake-up when the consumer has read `wake_at` blocks in total; 0: whenever it releases one."""
        self._words[_WAKE_AT] = wake_at
        self._bytes[_WAITING] = 2 if wake_at else 1

    def end_wait(self) -> None:
        """Clear the request: the producer no longer waits, or has been woken."""
        self._bytes[_WAITING] = 0

    @property
    def leaving(self) -> bool:
        """Whether the consumer has stopped receiving; it may still hold blocks."""
        return bool(self._bytes[_LEAVING])

    def leave(self) -> None:
        """Mark this consumer as no longer receiving."""
        self._bytes[_LEAVING] = 1

    @property
    def forwards(self) -> bool:
        """Whether the consumer has passed blocks on, so that other processes may read them after its death."""
        return bool(self._bytes[_FORWARDS])

    def forward(self) -> None:
        """Set `forwards`; called by the consumer before it passes a block on."""
        self._bytes[_FORWARDS] = 1

    def flag(self, block: int) -> int:
        """Return FREE, SENT or HELD."""
        return self._bytes[_FLAGS + block]

    def set_flag(self, block: int, flag: int) -> None:
        """Set a block's flag: FREE, SENT or HELD."""
        self._bytes[_FLAGS + block] = flag
