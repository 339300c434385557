"""The store `shm`: passes records to other processes on this machine through shared memory."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from penstock.arguments import checks_arguments
from penstock.errors import StoreError
from penstock.record import Record
from penstock.validators import at_least, seconds
from penstock_shm.channel.blocks import Packed, pack, warm_up
from penstock_shm.channel.producer import Producer
from penstock_shm.channel.reference import LARGE_BYTES
from penstock_shm.cleaning import sweep
from penstock_shm.directory import check_name

_AT_ONCE_BYTES = 64 << 10
"""Largest block that is copied under the lock of the producer."""


def _protect(group: Packed) -> None:
    """Make written arrays of `empty` read-only: consumers read them in place."""
    if any(place.within.owner is not None for place in group.places):
        for record in group.records:
            if isinstance(record.data, np.ndarray):
                record.data.flags.writeable = False


def _channel_name(_: object, __: object, value: str) -> None:
    check_name(value, "shm: channel_name")


@checks_arguments
@attrs.define
class ShmStore:
    """Pass records to every `shm` source with the same channel name on this machine.

    Each record is encoded once, directly into shared memory, where consumers read it in place. There is no server;
    producers and consumers may join and leave at any time. Lossless consumers receive every record written after their
    `open` returned; a slow one makes `write` wait. Consumers with `latest=True` never make it wait.

    The order of each producer is kept. Written records outlive this process, which may close and exit immediately.
    Records that a consumer had not read when it died are lost to it. Memory grows as needed and is anonymous: it needs
    no space in /dev/shm, and the kernel frees it when its last user ends for any reason.

    Attributes:
        channel_name: Any text of 1 to 4096 bytes; all processes of one user with the same name share the channel.
        wait_for_consumers: Number of consumers that must be attached before `write` continues. With 0, records written
            while no consumer is attached are discarded; `sent_to_nobody` counts them.
        consumer_timeout_s: Seconds that `write` waits for consumers before it raises; None waits for ever.
        hold_timeout_s: Seconds that `write` waits for memory while consumers hold all of it in records that they
            have read; then it raises an error that names the consumer holding most.
        exclusive: Refuse to open while the channel has another producer, and refuse others while this one is open.
        max_bytes: Upper limit of memory in bytes; None: nine tenths of the memory available at the time.
    """

    takes: ClassVar[str] = "any"

    channel_name: str = attrs.field(validator=_channel_name)
    wait_for_consumers: int = attrs.field(default=1, kw_only=True, validator=at_least(0))
    consumer_timeout_s: float | None = attrs.field(default=60.0, kw_only=True)
    hold_timeout_s: float = attrs.field(default=5.0, kw_only=True, validator=seconds)
    exclusive: bool = attrs.field(default=False, kw_only=True)
    max_bytes: int | None = attrs.field(default=None, kw_only=True)
    _producer: Producer | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _sent_to_nobody: int = attrs.field(default=0, init=False, repr=False, eq=False)

    @classmethod
    def for_link(cls, name: str) -> ShmStore:
        """Return a store for the near end of a link: exclusive, without waiting for consumers."""
        return cls(name, wait_for_consumers=0, exclusive=True)

    def open(self) -> None:
        """Join the channel.

        Raises:
            CannotConnectToStoreError: the system is not Linux; the directory cannot be used; or the channel has another
                producer and one of the two is exclusive.
        """
        if self._producer is not None:
            raise StoreError(f"shm store {self.channel_name!r}: is open already; close it first", retryable=False)
        sweep()
        warm_up()
        self._sent_to_nobody = 0
        self._producer = Producer(self.channel_name, exclusive=self.exclusive, most_bytes=self.max_bytes)

    def write(self, records: Sequence[Record]) -> None:
        """Publish all records; wait while a lossless consumer has too many unread.

        Raises:
            StoreError: too few consumers attached in time; consumers hold all memory; the machine has none; another
                thread closed the store meanwhile; or this process was forked from the one that opened it. `failed` has
                the unpublished records, unless all records are unpublished. Records that cannot be encoded are among
                them, each with its CodecError; the others are published.
        """
        producer = self._get_producer()
        failed: list[tuple[Record, BaseException]] = []
        groups = pack(records, failed, producer)
        if len(groups) == 1 and not failed and self._put(producer, groups[0]):
            return
        left = sum([len(group.records) for group in groups])
        producer.begin(left)
        try:
            for group in groups:
                self._hand_over(producer, group)
                left -= len(group.records)
        except StoreError as error:
            producer.begin(-left)
            if failed or left < len(records):
                waiting = [record for group in groups for record in group.records]
                error.failed = (*failed, *((record, error) for record in waiting[len(waiting) - left :]))
            raise
        if failed:
            first = failed[0][1]
            raise StoreError(f"shm store {self.channel_name!r}: {first}", failed=failed, retryable=False) from first

    def empty(self, shape: int | Sequence[int], dtype: Any = np.uint8) -> np.ndarray[Any, Any]:
        """Return an uninitialized array in the memory of this channel, to be filled and written without a copy.

        `write` does not copy the array, or contiguous parts of it. Consumers read a written array in place, so it
        becomes read-only (do not change it through views made earlier); call `empty` again for the next record. The
        memory is reused after the array and all its views are deleted here and no consumer holds it. Thread-safe.

        Args:
            shape: The shape of the array.
            dtype: The dtype, without Python objects.

        Raises:
            StoreError: the store is not open; or there is no memory, as for `write`.
            TypeError: the dtype contains Python objects.
        """
        described = np.dtype(dtype)
        if described.hasobject:
            raise TypeError(f"shm store {self.channel_name!r}: an array of {described} cannot be shared; use numbers")
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        size = math.prod(shape) * described.itemsize
        if size < LARGE_BYTES:  # copying costs less than a reference
            return np.empty(shape, described)
        memory = self._get_producer().empty(size, self.hold_timeout_s)
        return np.ndarray(shape, described, memory.data)

    def sync(self) -> None:
        """Return at once: the records were published when `write` returned.

        Published records survive this process, but neither a power failure nor the death of the consumer that has them.
        A checkpoint over a link must come from the consumer's side.
        """
        self._get_producer()

    def close(self) -> None:
        """Notify the consumers of the end, and leave the channel. Records that they hold stay valid."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()

    def consumers(self) -> int:
        """Return the number of attached consumers. Thread-safe."""
        return self._get_producer().audience()

    @property
    def sent_to_nobody(self) -> int:
        """Number of records written while no consumer was attached, since `open`."""
        return self._sent_to_nobody

    def _get_producer(self) -> Producer:
        producer = self._producer
        if producer is None:
            raise StoreError(f"shm store {self.channel_name!r}: is not open; call open() first", retryable=False)
        if producer.pid != os.getpid():
            raise StoreError(
                f"shm store {self.channel_name!r}: was opened in process {producer.pid}, and this is its fork "
                f"{os.getpid()}; open a store of its own here, or start the process by 'spawn'",
                retryable=False,
            )
        return producer

    def _put(self, producer: Producer, group: Packed) -> bool:
        """Write a group that is one small piece, if no wait is needed; return whether it was written."""
        if group.size > _AT_ONCE_BYTES or len(group.pieces) > 1 or group.places:
            return False
        channels = [record.channel for record in group.records]
        return producer.put(group.pieces[0][1], self.wait_for_consumers, channels)

    def _hand_over(self, producer: Producer, group: Packed) -> None:
        block = producer.take(group.size, self.hold_timeout_s)
        try:
            memory = block.memory
            for start, piece in group.pieces:
                values = np.frombuffer(piece, np.uint8)
                memory[start : start + values.size] = values
            if group.places:
                producer.refer(block, group.places)
            # Wait after copying: a large record is then copied while a consumer works on the previous one.
            if not producer.wait_for_room(self.wait_for_consumers, self.consumer_timeout_s):
                self._sent_to_nobody += len(group.records)
        except BaseException:
            producer.give_back(block)
            raise
        producer.hand_over(block, group.size, [record.channel for record in group.records])
        if group.places:
            _protect(group)
