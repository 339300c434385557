"""Messages of a producer's errors after a wait: missing consumers, or memory held by consumers."""

from __future__ import annotations

from collections.abc import Sequence

from penstock_shm.channel.audience import Consumer
from penstock_shm.channel.pool import Block


def too_few(label: str, have: int, wanted: int) -> str:
    """Return the message for a write that waited for consumers in vain."""
    return (
        f"{label}: {have} of {wanted} consumers are attached; start a source 'shm' with this channel_name, "
        "wait longer (consumer_timeout_s), or set wait_for_consumers=0 to discard records without consumers"
    )


def no_memory(label: str, size: int, blocks: Sequence[Block], consumers: Sequence[Consumer]) -> str:
    """Return the message for a write that waited for memory while these blocks are in use."""
    held = {consumer.name: [block for block in blocks if consumer.holds(block)] for consumer in consumers}
    name, most = max(held.items(), key=lambda item: _bytes(item[1]), default=("(none)", []))
    kept = [block for block in blocks if block.is_reserved]
    if _bytes(kept) > _bytes(most):
        return (
            f"{label}: no memory for {size} bytes, since {len(kept)} arrays of empty() ({_bytes(kept)} bytes) are "
            "in use here, or were written and are held by consumers; delete them, or increase max_bytes"
        )
    return (
        f"{label}: no memory for a record of {size} bytes, since consumer {name} holds {len(most)} blocks "
        f"({_bytes(most)} bytes) of records that it has read; release or copy them there, or increase max_bytes"
    )


def _bytes(blocks: Sequence[Block]) -> int:
    return sum(block.size for block in blocks)
