"""Every test has a separate shared directory, and leaves no segment, socket, thread, file or process."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.testing import no_leaks
from penstock_shm import clean
from penstock_shm.directory import VARIABLE

PEER = Path(__file__).with_name("peer.py")


@pytest.fixture(autouse=True)
def place(tmp_path_factory, monkeypatch):
    """Give the test a directory in memory, and check that `clean` leaves nothing of it."""
    path = Path("/dev/shm") / f"penstock-test-{os.getpid()}-{tmp_path_factory.mktemp('place').name}"
    monkeypatch.setenv(VARIABLE, str(path))
    path.mkdir()
    with no_leaks():
        yield path
        gc.collect()
        clean()
        left = list(path.rglob("*")) if path.exists() else []
        shutil.rmtree(path, ignore_errors=True)
        assert left == []
        assert "memfd:penstock" not in Path("/proc/self/maps").read_text(), "a channel's memory is still mapped"


class Peer:
    """Another process, which runs one function of peer.py and is talked to in lines."""

    def __init__(self, what: str, *arguments: object) -> None:
        command = [sys.executable, "-W", "error", str(PEER), what, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    @property
    def pid(self) -> int:
        return self.process.pid

    def hear(self) -> str:
        """Return its next line of output."""
        line = self.process.stdout.readline().strip()
        if not line:
            self.process.kill()
            raise AssertionError(f"the peer ended: {self.process.stderr.read()}")
        return line

    def tell(self, line: str = "") -> None:
        """Send a line to it."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """Kill it, as `kill -9` does, and wait until it is dead."""
        self.process.kill()
        self.process.wait(20)

    def end(self) -> None:
        """Wait until it has ended with status 0."""
        self.process.stdin.close()
        assert self.process.wait(30) == 0, self.process.stderr.read()

    def close(self) -> None:
        self.process.kill()
        self.process.wait(20)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


@pytest.fixture
def start(place):
    """Start peers: `start("produce", channel_name, …)`; they are killed when the test ends."""
    peers: list[Peer] = []

    def run(what: str, *arguments: object) -> Peer:
        peers.append(Peer(what, *arguments))
        return peers[-1]

    yield run
    for peer in peers:
        peer.close()
