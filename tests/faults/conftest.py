"""Children that are killed, disks that are full, and how much of it all is done."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("child.py")
FULL = os.environ.get("PENSTOCK_FAULTS") == "full"
"""Whether the long form is run: `nox -s faults`."""


@pytest.fixture
def many_or_few():
    """A function that returns its first argument in the long form, else its second."""
    return lambda many, few: many if FULL else few


@pytest.fixture
def start(tmp_path):
    """A function that starts an action of child.py; whatever is left of it is killed at the end of the test."""
    children = []

    def begin(action, *arguments):
        command = [sys.executable, str(CHILD), action, str(tmp_path), *map(str, arguments)]
        child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        children.append(child)
        return child

    yield begin
    for child in children:
        child.kill()
        child.communicate()


class Disk:
    """A directory on a disk that can be filled and made free again.

    Without the right to mount one, it is the size of files that is limited, for this process.
    """

    ROOM = 2_600_000

    def __init__(self, path, mounted):
        self.path = path
        self.mounted = mounted
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, *, largest_file=ROOM):
        """Leave ROOM bytes; or, where it cannot be mounted, let no file grow beyond `largest_file`."""
        if self.mounted:
            (self.path / "ballast").write_bytes(bytes(SIZE - self.ROOM))
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, self._before[1]))

    def exhaust(self):
        """Leave no room at all; or, where it cannot be mounted, none for a file of more than 4 bytes."""
        if self.mounted:
            with (self.path / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
                while True:
                    ballast.write(bytes(4096))
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4, self._before[1]))

    def free(self):
        """Make room again. More than once does nothing."""
        if self.mounted:
            (self.path / "ballast").unlink(missing_ok=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


SIZE = 16 * 2**20


@pytest.fixture
def disk(tmp_path):
    """A disk that can be filled: a tmpfs, or this one with a limit to the size of files."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "penstock-test", str(place)]
    mounted = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True).returncode == 0
    disk = Disk(place, mounted)
    yield disk
    disk.free()
    if mounted:
        subprocess.run(["umount", str(place)], check=True)
