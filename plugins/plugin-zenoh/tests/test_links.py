"""Links between machines: two network namespaces, a cable between them, and what happens when it is cut."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FULL = os.environ.get("PENSTOCK_FAULTS") == "full"
END = Path(__file__).with_name("link_end.py")
RELAY = Path(__file__).with_name("relay.py")
RATE = 100
CUTS = [(4, 1024), (4, 1 << 20), (20, 1024), (20, 1 << 20)]
"""Seconds and bytes."""
LONGER = [(1024, 600), (1024, 3000), (1 << 20, 400)] if FULL else [(1024, 600)]
"""Bytes, and how many records: the sender ends before the link is back, or long after, or waits since it is full."""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Cable:
    """Two hosts, `a` and `b`, and the cable between them; or, with `loss` and `delay_s`, a bad line."""

    def __init__(self, name: str, directory: Path, *, loss: float = 0.0, delay_s: float = 0.0) -> None:
        self.a, self.b = f"{name}a", f"{name}b"
        self._directory = directory
        self._started: list[subprocess.Popen[str]] = []
        self._relay: subprocess.Popen[str] | None = None
        for host in (self.a, self.b):
            ip("netns", "add", host)
        if loss or delay_s:
            self._relay = subprocess.Popen(
                [sys.executable, str(RELAY), self.a, self.b, str(loss), str(delay_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._relay.stdout is not None
            assert self._relay.stdout.readline() == "ready\n"
        else:
            ip("link", "add", self.a, "type", "veth", "peer", "name", self.b)
        for host, address in ((self.a, "10.77.0.1/24"), (self.b, "10.77.0.2/24")):
            ip("link", "set", host, "netns", host)
            ip("-n", host, "addr", "add", address, "dev", host)
            ip("-n", host, "link", "set", host, "up")
            ip("-n", host, "link", "set", "lo", "up")

    def end_relay(self) -> tuple[int, int]:
        """End the relay of a bad line; return how many packets it passed on, and how many it lost."""
        assert self._relay is not None
        relayed, lost = self._relay.communicate(timeout=30)[0].split()
        return int(relayed), int(lost)

    def start(
        self,
        role: str,
        *,
        count: int,
        size: int,
        timeout_s: float,
        settle_s: float = 30,
        name: str = "",
        rate: float = RATE,
        at: str = "tcp/10.77.0.1:7450",
    ) -> subprocess.Popen[str]:
        """Start an end; with a name its host is called so, and not as this machine; `at` is where receivers listen."""
        host = self.a if role == "receive" and "10.77.0.1" in at else self.b
        arguments = [role, at, count, size, rate, timeout_s, self._directory / f"dead-{role}-{host}"]
        renamed = ["unshare", "--uts", "sh", "-c", f'hostname {name}; exec "$@"', "sh"] if name else []
        process = subprocess.Popen(
            ["ip", "netns", "exec", host, *renamed, sys.executable, str(END), *map(str, arguments), str(settle_s)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        )
        self._started.append(process)
        return process

    def pull(self) -> None:
        ip("-n", self.b, "link", "set", self.b, "down")

    def plug_in(self) -> None:
        ip("-n", self.b, "link", "set", self.b, "up")

    def remove(self) -> None:
        for process in (*self._started, *([self._relay] if self._relay else [])):
            if process.returncode is None:
                process.kill()
                process.communicate()
        for host in (self.a, self.b):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", host)


@pytest.fixture
def cable(tmp_path) -> Iterator[Cable]:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root, and `ip` of iproute2")
    made = Cable(f"pz{os.getpid() % 100_000}", tmp_path)
    yield made
    made.remove()


@pytest.fixture
def bad_line(tmp_path) -> Iterator[Cable]:
    if shutil.which("ip") is None or os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        pytest.skip("a relay between network namespaces needs root, `ip` of iproute2, and /dev/net/tun")
    made = Cable(f"pz{os.getpid() % 100_000}", tmp_path, loss=0.05, delay_s=0.05)
    yield made
    made.remove()


def result(process: subprocess.Popen[str]) -> dict:
    output = process.communicate(timeout=150)[0]
    return json.loads(output.splitlines()[-1])


def cut(cable: Cable, *, seconds: float, size: int, timeout_s: float, count: int) -> tuple[dict, dict]:
    """Send while the cable is pulled for `seconds`; return what sender and receiver report."""
    receiver = cable.start("receive", count=count, size=size, timeout_s=timeout_s)
    sender = cable.start("send", count=count, size=size, timeout_s=timeout_s)
    assert sender.stdout is not None
    assert json.loads(sender.stdout.readline()) == {"begun": True}
    wait(1.0)
    cable.pull()
    wait(seconds)
    cable.plug_in()
    return result(sender), result(receiver)


def wait(seconds: float) -> None:
    """Let time pass: how long a cable is out is what is tested."""
    subprocess.run(["sleep", str(seconds)], check=True)


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize(("seconds", "size"), CUTS)
def test_a_cut_shorter_than_the_timeout_loses_nothing(seconds, size, cable):
    """A cable that is out for 4 s or 20 s: everything arrives once and in order, and both ends say that all is well."""
    count = 400 if size > 1024 else 600
    sender, receiver = cut(cable, seconds=seconds, size=size, timeout_s=60, count=count)
    assert (receiver["distinct"], receiver["stored"], receiver["in_order"]) == (count, count, True), receiver
    assert receiver["ok"], receiver["report"]
    assert sender["stored"] == count
    assert sender["ok"], sender["report"]


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_broken_link_beside_a_sound_one(cable):
    """While one source is cut off another continues; both receive everything, once and in order."""
    far, near, count = "tcp/10.77.0.1:7450", "tcp/10.77.0.2:7450", 2000
    receivers = [cable.start("receive", count=count, size=1024, timeout_s=60, at=at) for at in (far, near)]
    sender = cable.start("send", count=count, size=1024, timeout_s=60, at=f"{far},{near}")
    assert sender.stdout is not None
    assert json.loads(sender.stdout.readline()) == {"begun": True}
    wait(1.0)
    cable.pull()
    wait(13.0)  # beyond zenoh's lease of 10 s, so that the token of the source goes
    cable.plug_in()
    sent = result(sender)
    for receiver in map(result, receivers):
        assert (receiver["distinct"], receiver["lost_upstream"], receiver["in_order"]) == (count, 0, True), receiver
        assert receiver["ok"], receiver["report"]
    assert sent["ok"], sent["report"]


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize(("size", "count"), LONGER)
def test_a_cut_longer_than_the_timeout_is_the_same_number_at_both_ends(size, count, cable):
    """The loss of a longer cut is an error at both ends, with the same exact number; records arrive in order."""
    sender, receiver = cut(cable, seconds=20, size=size, timeout_s=3, count=count)
    assert receiver["in_order"]
    lost = count - receiver["distinct"] - sender["dead"]
    assert receiver["lost_upstream"] == lost, (receiver["report"], sender["report"])
    assert receiver["ok"] == (lost == 0), receiver["report"]
    if size == 1024:  # large records fill all queues, so that the sender stands still, and may lose nothing
        assert lost > 0
    if lost:
        assert f"misses {lost} records" in sender["report"], (lost, sender["report"])
    assert sender["ok"] == (not lost and not sender["dead"]), sender["report"]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["", "elsewhere"])
def test_a_dead_sender_ends_until_end_with_an_error(name, cable):
    """A sender that is killed, here or on another machine, ends a source with `until_end` by an error that names it."""
    receiver = cable.start("receive", count=0, size=1024, timeout_s=2, settle_s=2)
    sender = cable.start("send", count=10_000, size=1024, timeout_s=2, settle_s=2, name=name)
    assert sender.stdout is not None
    sender.stdout.readline()
    wait(1.0)
    sender.kill()
    told = result(receiver)
    assert not told["ok"]
    assert f"vanished without closing: process {sender.pid} on {name}" in told["report"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_line_with_loss_and_delay_loses_no_record(bad_line):
    """With 5 % of all packets lost and 50 ms of delay each way, everything arrives once and in order."""
    count = 2000 if FULL else 300
    receiver = bad_line.start("receive", count=count, size=1024, timeout_s=30, rate=40)
    sender = bad_line.start("send", count=count, size=1024, timeout_s=30, rate=40)
    sent, received = result(sender), result(receiver)
    relayed, lost = bad_line.end_relay()
    assert lost > relayed / 100
    assert (received["distinct"], received["stored"], received["in_order"]) == (count, count, True), received["report"]
    assert received["ok"], received["report"]
    assert sent["ok"], sent["report"]
