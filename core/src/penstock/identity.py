"""Identity: the `seq` of derived records, computed from their parents and never counted.

(channel, seq) names a record. A single result of a record keeps its number. One of several results, and a result of
several records or of a name, gets a number of 64 bits that depends only on its origin: it is the same when the same
input is processed again, and different for other input (docs/decisions/0012-identity-is-derived.md):

    below 10**18                     a number that a source counted or was sent
    1 nnnnnnnnnnnn iiiiii            part i of record n
    2 nnnnnnnnnnnn iiijjj            part j of part i of record n
    3 nnnnnnnnnnnn iijjkk            and once more
    7 nnnnnnnnnnnn cccccc            c consecutive records of one channel, from n on
    8 nnnnnnnnnnnn dddddd            records of one channel from n on, with a digest of their numbers
    10**18 and above                 everything that does not fit: a digest
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from penstock.record import Record

COUNTED: Final = 10**18
"""Smaller numbers were counted by a source or its sender; larger ones are computed, and gaps mean nothing."""
_BASES: Final = 10**12
MOST_PARTS: Final = 10**6
_RADIX: Final = {1: 10**6, 2: 10**3, 3: 10**2}
"""The most parts that fit, by the number of levels."""
_RUN, _WITH_GAPS = 7, 8
_END: Final = 2**63


def part_numbers(channel: str, seq: int, count: int) -> Sequence[int]:
    """Return the numbers of `count` records made from the record (channel, seq), in order."""
    if 0 <= seq < _BASES and count <= MOST_PARTS:
        first = COUNTED + seq * MOST_PARTS
        return range(first, first + count)
    return [part_number(channel, seq, index) for index in range(count)]


def first_parts(numbers: Sequence[int]) -> list[int] | None:
    """Return the number of the first part of each of these records, at least one; the other parts follow it.

    None if that does not hold for one of them. It never does for more than MOST_PARTS parts.
    """
    if min(numbers) < 0 or max(numbers) >= _BASES:
        return None
    return [COUNTED + number * MOST_PARTS for number in numbers]


def part_number(channel: str, seq: int, index: int) -> int:
    """Return the number of the part with this index, from 0, of the record (channel, seq)."""
    level, base = 0, seq
    path: tuple[int, ...] = ()
    if not 0 <= seq < _BASES:
        level, rest = divmod(seq, COUNTED)
        if level in (1, 2):
            base, places = divmod(rest, MOST_PARTS)
            path = _digits(places, level)
        else:
            return digest_number("part", channel, seq, index)
    path = (*path, index)
    radix = _RADIX[level + 1]
    if max(path) >= radix:
        return digest_number("part", channel, seq, index)
    places = 0
    for each in path:
        places = places * radix + each
    return (level + 1) * COUNTED + base * MOST_PARTS + places


def gathered_number(records: Sequence[Record]) -> int:
    """Return the number of a record made from all of these, which have one channel or several.

    For one channel, it is unique in this channel; for several, in any channel.
    """
    channel, numbers = records[0].channel, [record.seq for record in records]
    if any(record.channel != channel for record in records):
        return digest_number("buffered", *(field for record in records for field in (record.channel, record.seq)))
    first, count = numbers[0], len(numbers)
    if not 0 <= first < _BASES:
        return digest_number("buffered", channel, *numbers)
    if count < MOST_PARTS and numbers == list(range(first, first + count)):
        return _RUN * COUNTED + first * MOST_PARTS + count
    return _WITH_GAPS * COUNTED + first * MOST_PARTS + digest_number("buffered", channel, *numbers) % MOST_PARTS


def moment_number(records: Sequence[Record], *, is_complete: bool) -> int:
    """Return the number of a record that joins one record of each channel: theirs, if all have the same one."""
    number = records[0].seq
    if is_complete and all(record.seq == number for record in records):
        return number
    return digest_number("moment", *(field for record in records for field in (record.channel, record.seq)))


def named_number(name: str) -> int:
    """Return the number of a record that a name identifies in its channel (the path of a file)."""
    return digest_number("named", name)


def digest_number(kind: str, *fields: str | int) -> int:
    """Return a number determined by these fields alone; two collide once in 10**18."""
    hashed = hashlib.blake2b(kind.encode(), digest_size=8)
    for field in _spelled(fields):
        hashed.update(len(field).to_bytes(8, "big"))
        hashed.update(field)
    return COUNTED + int.from_bytes(hashed.digest(), "big") % (_END - COUNTED)


def is_leap(last: int, seq: int) -> bool:
    """Return whether the numbers of two records of a channel show that records are missing between them."""
    return last + 1 < seq < COUNTED


def _digits(places: int, level: int) -> tuple[int, ...]:
    radix = _RADIX[level]
    return (places,) if level == 1 else divmod(places, radix)


def _spelled(fields: Iterable[str | int]) -> Iterable[bytes]:
    return (str(field).encode("utf-8", "surrogatepass") for field in fields)
