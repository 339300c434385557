"""Numbers for names that exist: image.npy, image-1.npy, image-2.npy."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

_MOST_KNOWN = 10_000


@attrs.define
class Numbering:
    """Find the next free name, without trying all existing ones each time."""

    _last: dict[Path, int] = attrs.field(factory=dict, init=False)

    def free(self, path: Path) -> Path:
        """Return the next name of this path, with a number, that is free now."""
        number = self._last.pop(path, 0) + 1
        if os.path.lexists(_numbered(path, number)):
            number = _first_free(path, number)
        self._last[path] = number
        if len(self._last) > _MOST_KNOWN:
            del self._last[next(iter(self._last))]
        return _numbered(path, number)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _first_free(path: Path, taken: int) -> int:
    """Return a free number after an existing one: the first, if the numbers have no gap."""
    step = 1
    while os.path.lexists(_numbered(path, taken + step)):
        taken += step
        step *= 2
    free = taken + step
    while free - taken > 1:
        middle = (taken + free) // 2
        if os.path.lexists(_numbered(path, middle)):
            taken = middle
        else:
            free = middle
    return free
