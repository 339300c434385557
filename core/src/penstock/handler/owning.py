"""own: make what is put the handler's own, copied where its memory is reused, and read-only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.buffers import IMMUTABLE, BufferWatch, copied
from penstock.read_only import EMPTY, ReadOnlyDict, frozen_own, frozen_value
from penstock.record import Record
from penstock.record_size import size_of_parts


def own(
    watch: BufferWatch, data: Any, metadata: Mapping[str, Any] | None, reuses_buffers: bool | None
) -> tuple[Any, Mapping[str, Any], int]:
    """Return data and metadata that cannot be written to, nor changed by their owner as far as known, and their size.

    `reuses_buffers` is what the caller of `put` said; None leaves it to the watch. Raises BufferReusedError.
    """
    if metadata and not IMMUTABLE.issuperset(map(type, metadata.values())):
        known = dict(metadata)
        if reuses_buffers is None:
            whole = watch.kept(Record(data, metadata=known))
            data, known = whole.data, whole.metadata
        elif reuses_buffers:
            data, known = copied(data), copied(known)
        data, known = frozen_value(data), frozen_value(known)
        return data, known, size_of_parts(data, known)
    kept = watch.kept(data) if reuses_buffers is None else copied(data) if reuses_buffers else data
    frozen = frozen_value(data) if kept is data else frozen_own(kept)
    if not metadata:
        return frozen, EMPTY, size_of_parts(frozen, EMPTY)
    plain = ReadOnlyDict(metadata)
    return frozen, plain, size_of_parts(frozen, plain)
