"""Free endpoints, other processes, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

WITHIN_S = 60


class Peer:
    """Another process with a store or a source."""

    def __init__(self, role: str, settings: dict) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("peer.py")), role, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put('{"error": "ProcessEnded", "message": "the other process has ended"}')

    def tell(self, do: str, **arguments) -> None:
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict:
        return json.loads(self.lines.get(timeout=WITHIN_S))

    def ask(self, do: str, **arguments) -> dict:
        self.tell(do, **arguments)
        return self.answer()

    def do(self, do: str, **arguments) -> dict:
        answer = self.ask(do, **arguments)
        assert "error" not in answer or not answer["error"], answer
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WITHIN_S)

    def end(self) -> int:
        """Close its input, as an orderly program would end; return its exit status."""
        self.process.stdin.close()
        return self.process.wait(WITHIN_S)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self._reader.join(WITHIN_S)
        self.process.stdout.close()
        if not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()


@pytest.fixture
def endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp/127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def peer(endpoint):
    """Start another process, of a role and with settings, that meets this one at `endpoint`."""
    started: list[Peer] = []

    def start(role: str, **settings) -> Peer:
        started.append(Peer(role, {"rendezvous": endpoint, **settings}))
        return started[-1]

    yield start
    for each in started:
        each.clean_up()


@pytest.fixture
def opened():
    """Open components; close them at the end, the last first."""
    held = []

    def open_(component):
        component.open()
        held.append(component)
        return component

    yield open_
    for component in reversed(held):
        component.close()


@pytest.fixture(autouse=True)
def no_thread_stays():
    """A thread of ours that outlives its component is an error."""
    yield
    left = [each.name for each in threading.enumerate() if each.name.startswith("penstock-zenoh")]
    assert left == []
