"""Room on the disk that stores keep free."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import attrs

from penstock.errors import StoreError
from penstock.validators import at_least

_LOOK_EVERY_S = 0.5


@attrs.define(eq=False)
class Reserve:
    """Refuse writes that would leave less than the reserve free for this user.

    The file system is asked every half second, and before each refusal; in between, writes are counted.

    Attributes:
        where: Text that messages begin with.
        path: A path on the disk; it need not exist.
        reserve_bytes: Bytes to keep free; 0 disables the check.
    """

    where: str
    path: Path
    reserve_bytes: int = 0
    _left: int = attrs.field(default=0, init=False)
    _looked_s: float = attrs.field(default=-1.0, init=False)

    def take(self, size_bytes: int) -> None:
        """Count bytes that are about to be written.

        Raises:
            StoreError: they would leave less than the reserve. Retryable.
        """
        if not self.reserve_bytes:
            return
        if size_bytes > self._left or time.monotonic() - self._looked_s > _LOOK_EVERY_S:
            free = _free_bytes(self.path)
            self._left, self._looked_s = free - self.reserve_bytes, time.monotonic()
            if size_bytes > self._left:
                raise StoreError(
                    f"{self.where}: {free:,} bytes are free on the disk of {self.path}, {size_bytes:,} are wanted, "
                    f"and reserve_bytes={self.reserve_bytes:,} must stay: make room, or set reserve_bytes lower"
                )
        self._left -= size_bytes


def _free_bytes(path: Path) -> int:
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    if hasattr(os, "statvfs"):
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize
    import shutil

    return shutil.disk_usage(path).free


def reserve_setting() -> Any:
    """Return the field `reserve_bytes` of a store."""
    return attrs.field(default=0, validator=at_least(0))
