"""Memory of the second process is bounded, however long the video."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import av
import pytest

SCRIPT = """
import atexit, pathlib, re, sys
from penstock.cli import main

def tell():
    status = pathlib.Path("/proc/self/status").read_text()
    print("\\npeak", re.search(r"VmHWM:\\s+(\\d+) kB", status)[1], file=sys.stderr)

atexit.register(tell)
main(sys.argv[1:])
"""


def peak_mib(video: Path, loop: int, directory: Path) -> float:
    """Return the largest resident memory of process 2 while it keeps the video, played `loop` times, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "demo", "--video", str(video), "--loop", str(loop), "--out", str(directory)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^peak (\d+)$", done.stderr, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_peak_memory_does_not_grow_with_the_video(carphone: Path, tmp_path: Path) -> None:
    """A video ten times as long needs no more memory: at most a fifth of the size of its additional frames."""
    with av.open(str(carphone)) as container:
        frame_bytes = [frame.width * frame.height * 3 for frame in container.decode(video=0)]
    short = peak_mib(carphone, 4, tmp_path / "short")
    long = peak_mib(carphone, 40, tmp_path / "long")
    more = 36 * sum(frame_bytes) / 2**20
    # What the allocator keeps for itself grows to a limit of about 40 MiB in the first minute, whatever the video.
    assert long - short < more / 5, f"{short:.0f} MiB for 4 rounds, {long:.0f} MiB for 40; {more:.0f} MiB more frames"
