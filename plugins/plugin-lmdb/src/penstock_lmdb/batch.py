"""A list of records that is about to be written: the key and the bytes of each, made before the transaction begins."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from penstock.codec import encode
from penstock.errors import CodecError, StoreError, TemplateError
from penstock.record import Record
from penstock_lmdb.naming import Naming, name_of

LARGE = 1 << 16
"""Bytes from which a value is assembled within the transaction, in memory that the next one reuses."""

Failed = list[tuple[Record, BaseException]]
Value = bytes | memoryview | list[bytes | memoryview]
Item = tuple[Record, bytes, Value]
_OVERHEAD = 200  # bytes of a record in addition to its value, about


@attrs.frozen
class Batch:
    """Records with their keys and their bytes; a large one as consecutive buffers.

    Attributes:
        items: In the order of the records. The keys are empty if the records are numbered in order of arrival.
        size_bytes: Their approximate size in the file.
        is_small: Whether all of them are small.
    """

    items: list[Item]
    size_bytes: int
    is_small: bool


def prepare(records: Sequence[Record], naming: Naming) -> tuple[Batch, Failed]:
    """Return the batch of those that have a key and can be encoded, and the others, each with its error."""
    items: list[Item] = []
    failed: Failed = []
    size_bytes, is_small = 0, True
    key_of = None if naming.key_by == "sequence" else naming.key
    for record in records:
        try:
            key = b"" if key_of is None else key_of(record)
            parts = encode(record, join_below=LARGE)
        except (CodecError, TemplateError) as error:
            own = StoreError(f"{naming.where}: record {name_of(record)}: {error}", retryable=False)
            own.__cause__ = error
            failed.append((record, own))
            continue
        except StoreError as error:
            failed.append((record, error))
            continue
        if len(parts) == 1:
            items.append((record, key, parts[0]))
            size_bytes += len(parts[0])
        else:
            items.append((record, key, parts))
            size_bytes += sum(map(len, parts))
            is_small = False
    return Batch(items, size_bytes + _OVERHEAD * len(items), is_small), failed
