"""Fixtures: free endpoints, other processes, and checks for leaks."""

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

    def __init__(self, role: str, settings: dict, *, python: str = sys.executable, script: str = "peer.py") -> None:
        paths = os.pathsep.join(each for each in sys.path if each) if python == sys.executable else ""
        self.process = subprocess.Popen(
            [python, str(Path(__file__).parent / script), role, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
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
        """Close its input, which ends it in order; return its exit status."""
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
    return free_endpoint()


def free_endpoint() -> str:
    """Return an unused loopback endpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp/127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def peer(endpoint):
    """Start another process with this role and these settings, which uses `endpoint` as rendezvous."""
    started: list[Peer] = []

    def start(role: str, **settings) -> Peer:
        started.append(Peer(role, {"rendezvous": endpoint, **settings}))
        return started[-1]

    yield start
    for each in started:
        each.clean_up()


@pytest.fixture
def opened():
    """Open components; close them at the end, in reverse order."""
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


HEROS = ("heros==2026.2.2", "herostools==2026.1.1")
INSTALL_S = 1200
"""Seconds that downloading and installing these may take on a new machine."""


def pytest_collection_modifyitems(items) -> None:
    """Exclude the installation of `heros_python` from the time limit of the first test that uses it."""
    for item in items:
        if "heros_python" in getattr(item, "fixturenames", ()):
            given = item.get_closest_marker("timeout")
            seconds = given.args if given is not None and given.args else (120,)
            item.add_marker(pytest.mark.timeout(*seconds, func_only=True), append=False)


@pytest.fixture(scope="session")
def heros_python() -> str:
    """Return an interpreter with the real heros and herostools."""
    return heros_environment()


def heros_environment() -> str:
    """Return an interpreter with the real heros and herostools, whose pins differ from ours; made once.

    `PENSTOCK_HEROS_PYTHON` names one that is there already. Where they cannot be downloaded the test is skipped, which
    is a failure on CI.
    """
    given = os.environ.get("PENSTOCK_HEROS_PYTHON")
    if given:
        return given
    import fcntl
    import hashlib
    import venv

    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    name = hashlib.sha256(" ".join((*HEROS, version)).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "penstock-tests"
    cache.mkdir(parents=True, exist_ok=True)
    home = cache / f"heros-{name}"
    python = home / "bin" / "python"
    with open(cache / f"heros-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            venv.create(home, clear=True, with_pip=True)
            patience = () if os.environ.get("CI") else ("--retries", "1", "--timeout", "10")
            done = subprocess.run(
                [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *patience, *HEROS],
                capture_output=True,
                text=True,
                check=False,
                timeout=INSTALL_S,
            )
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                pytest.skip(
                    f"the real heros could not be downloaded ({last:.300}): run these tests once while online, or set "
                    f"PENSTOCK_HEROS_PYTHON to the Python of an environment with {' and '.join(HEROS)}"
                )
            (home / "complete").touch()
    return str(python)


@pytest.fixture
def heros(heros_python):
    """Start a real peer of the HERO world: its role, and settings."""
    started: list[Peer] = []

    def start(role: str, **settings) -> Peer:
        peer = Peer(role, settings, python=heros_python, script="heros_peer.py")
        started.append(peer)
        assert peer.answer() == {"ready": True}
        return peer

    yield start
    for each in started:
        each.clean_up()


@pytest.fixture
def other_endpoint() -> str:
    return free_endpoint()
