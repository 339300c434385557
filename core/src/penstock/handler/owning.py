"""own: returns data that are put as read-only data of the handler, copied if their memory is reused."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from penstock.buffers import IMMUTABLE, BufferWatch, copied
from penstock.read_only import EMPTY, ReadOnlyDict, frozen_own, frozen_value
from penstock.record import Record
from penstock.record_size import OVERHEAD_BYTES, bytes_of_numbers, size_of_parts


def own(
    watch: BufferWatch, data: Any, metadata: Mapping[str, Any] | None, reuses_buffers: bool | None
) -> tuple[Any, Mapping[str, Any], int]:
    """Return read-only data and metadata, which their owner will not change as far as is known, and their bytes.

    `reuses_buffers` is the argument of `put`; None leaves the decision to the watch. Raises BufferReusedError.
    """
    numbers = bytes_of_numbers(metadata) if metadata else 0
    if metadata and numbers is None and not IMMUTABLE.issuperset(map(type, metadata.values())):
        known = dict(metadata)
        if reuses_buffers is None:
            whole = watch.kept(Record(data, metadata=known))
            data, known = whole.data, whole.metadata
        elif reuses_buffers:
            data, known = copied(data), copied(known)
        data, known = frozen_value(data), frozen_value(known)
        return data, known, size_of_parts(data, known)
    plain = ReadOnlyDict(metadata) if metadata else EMPTY
    copies = watch.reuses if reuses_buffers is None else reuses_buffers
    numpy: Any = sys.modules.get("numpy")
    is_array = numpy is not None and type(data) is numpy.ndarray and not data.dtype.hasobject
    if is_array and copies and numbers is not None:  # the same as below, in fewer steps
        frozen = data.copy("K")  # numpy takes longer to read keywords
        frozen.setflags(False)
        return frozen, plain, OVERHEAD_BYTES + numbers + frozen.nbytes
    kept = watch.kept(data) if reuses_buffers is None else copied(data) if reuses_buffers else data
    frozen = frozen_value(data) if kept is data else frozen_own(kept)
    return frozen, plain, size_of_parts(frozen, plain)
