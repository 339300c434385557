"""The number of a message within its channel, computed from its partition and offset."""

from __future__ import annotations

from typing import Final

from penstock.identity import COUNTED, digest_number

_BASE: Final = 9 * COUNTED
_OFFSETS: Final = 10**13
_PARTITIONS: Final = (2**63 - _BASE) // _OFFSETS


def number_of(partition: int, offset: int) -> int:
    """Return the `seq` of a message: its offset in partition 0, and a number above 9 * 10**18 in any other.

    Numbers of different partitions never collide, those of one partition increase, and adding partitions changes none.

    >>> number_of(0, 17), number_of(3, 17)
    (17, 9000030000000000017)
    """
    if partition == 0:
        return offset
    if partition < _PARTITIONS and offset < _OFFSETS:
        return _BASE + partition * _OFFSETS + offset
    return digest_number("partition", partition, offset)
