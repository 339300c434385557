"""A file of checksums in each directory, which `xxhsum --check` verifies.

A line is "XXH3_", the XXH3-64 of a file in hexadecimal, two spaces, and the file's name: the format of xxhsum 0.8.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import xxhash

from penstock.errors import ConfigError

NAME = "checksums"


@attrs.define(eq=False)
class Checksums:
    """Add a line for each file that is written.

    A file that is replaced has several lines; `verify` uses the last one, and xxhsum complains about the others.
    """

    def add(self, path: Path, buffers: Sequence[Any]) -> Path:
        """Add the line of a file with this content; return the file of checksums. Raises OSError."""
        digest = xxhash.xxh3_64()
        for buffer in buffers:
            digest.update(buffer)
        sums = path.with_name(NAME)
        fd = os.open(sums, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            size = os.fstat(fd).st_size
            line = f"XXH3_{digest.hexdigest()}  {path.name}\n".encode("utf-8", "surrogateescape")
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line  # another process died in the middle of a line
            try:
                if os.write(fd, line) != len(line):
                    raise OSError(28, os.strerror(28), os.fspath(sums))
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)
        return sums


def verify_checksums(directory: Path) -> dict[Path, str]:
    """Compare all files below a directory with the checksums beside them; return the problems, by file.

    Raises:
        ConfigError: there is no file of checksums.
    """
    found: dict[Path, str] = {}
    sums = sorted(Path(directory).rglob(NAME))
    if not sums:
        raise ConfigError(f"{directory}: has no file {NAME!r}; write the archive with checksums='xxh3'")
    for file in sums:
        expected: dict[str, str] = {}
        for text in file.read_bytes().decode("utf-8", "surrogateescape").splitlines():
            digest, separator, name = text.partition("  ")
            if separator and digest.startswith("XXH3_"):
                expected[name] = digest.removeprefix("XXH3_")
        for name, digest in expected.items():
            path = file.with_name(name)
            if not path.is_file():
                found[path] = "is missing"
            elif _digest_of(path) != digest:
                found[path] = "has changed"
        for path in file.parent.iterdir():
            if path.is_file() and path.name != NAME and path.name not in expected and not path.name.startswith("."):
                found[path] = "has no checksum"
    return found


def _digest_of(path: Path) -> str:
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
