"""Files that are written completely or not at all: under a temporary name, synced, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file durably, completely or not at all.

    The data are written to a file `.NAME.<8 hexadecimal digits>.tmp` in the same directory and synced. That file is
    renamed, and the directory is synced. A reader, also after `kill -9` or a power cut, finds the old file or the new
    one. `kill -9` can leave the temporary file behind.

    Args:
        path: The file, in an existing directory. An existing file is replaced, and its permissions are kept.
        data: The whole content.

    Raises:
        OSError: it cannot be written, and the old file is unchanged; or the directory could not be synced, and the new
            file may not survive a power cut. No temporary file is left.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            if path.exists():
                os.chmod(temporary, path.stat().st_mode & 0o777)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):  # a name that the user does not know
            error.filename = str(path)
        raise
    sync_directory(path.parent)


def sync_directory(directory: str | os.PathLike[str]) -> None:
    """Make the names in a directory durable; no effect where the system cannot do that. Raises OSError."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
