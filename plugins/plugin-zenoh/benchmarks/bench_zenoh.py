"""Records per second over zenoh, beside bare zenoh of the same QoS in the same run.

- `1 KiB in lists`, `2 MB`: a store and a source beside a bare publisher and a subscriber with a channel.
- `source, 1 KiB`: a raw source beside a bare callback that appends to a list; the sender is bare in both.

Two processes on loopback; bare and penstock take turns, so that both see the same machine. Prints one line of JSON for
each case, with the medians, their ratio, the goal and the spread, and the processor time of both processes for one
record, which other programs disturb less: `python bench_zenoh.py [ROUNDS [CASE]]`.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import zenoh

from penstock.errors import EndOfSource
from penstock.record import Record
from penstock_zenoh.session import Network
from penstock_zenoh.source import ZenohSource
from penstock_zenoh.store import ZenohStore

CASES = {"1 KiB in lists": (1024, 100_000, 1.0), "2 MB": (2_000_000, 400, 0.8), "source, 1 KiB": (1024, 100_000, 0.8)}
"""Bytes, how many records, and the ratio that is the goal."""
LIST = 256


def free_endpoint() -> str:
    """Return a loopback endpoint on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp/127.0.0.1:{probe.getsockname()[1]}"


def send(how: str, endpoint: str, size: int, count: int) -> None:
    """Send `count` payloads."""
    payload = os.urandom(size)
    if how == "penstock":
        store = ZenohStore(key="bench/{{ channel }}", connect=[endpoint])
        store.open()
        began_s = time.process_time()
        for first in range(0, count, LIST):
            store.write([Record(payload, channel="x", seq=seq) for seq in range(first, min(first + LIST, count))])
        store.close()
        print(time.process_time() - began_s)
        return
    session = Network(connect=(endpoint,)).open()
    publisher = session.declare_publisher(
        "bench/x", congestion_control=zenoh.CongestionControl.BLOCK, reliability=zenoh.Reliability.RELIABLE
    )
    while not publisher.matching_status.matching:
        time.sleep(0.01)
    time.sleep(0.1)  # a subscriber that matches may not hear the first messages yet
    began_s = time.process_time()
    for _ in range(count):
        publisher.put(payload)
    print(time.process_time() - began_s)
    sys.stdin.readline()  # until the other side has everything
    session.close()


def read_all(source: ZenohSource, count: int) -> float:
    """Read `count` records; return the seconds from the first list to the last."""
    source.open()
    start, got = 0.0, 0
    try:
        while got < count:
            records = source.read(LIST, 1.0)
            start = start or (time.perf_counter() if records else 0.0)
            got += len(records)
        took_s = time.perf_counter() - start
        while source.until_end:
            source.read(LIST, 1.0)
    except EndOfSource:
        pass
    finally:
        source.close()
    return took_s


def receive_bare(endpoint: str, count: int) -> float:
    """Receive by a channel."""
    session = Network(listen=(endpoint,)).open()
    subscriber = session.declare_subscriber("bench/**", zenoh.handlers.FifoChannel(LIST))
    for got in range(count):
        subscriber.recv().payload.to_bytes()
        if got == 0:
            start = time.perf_counter()
    took_s = time.perf_counter() - start
    session.close()
    return took_s


def receive_by_callback(endpoint: str, count: int) -> float:
    """Receive by a callback that appends to a list."""
    session = Network(listen=(endpoint,)).open()
    kept: list[bytes] = []
    times: list[float] = []
    done = threading.Event()

    def take(sample: zenoh.Sample) -> None:
        kept.append(sample.payload.to_bytes())
        if len(kept) in (1, count):
            times.append(time.perf_counter())
            if len(kept) == count:
                done.set()

    subscriber = session.declare_subscriber("bench/**", take)
    done.wait()
    subscriber.undeclare()
    session.close()
    return times[1] - times[0]


def rate(sender: str, size: int, count: int, receive: Callable[[str], float]) -> tuple[float, float]:
    """Start a sender, receive everything; return records per second, and microseconds of both processors for one."""
    endpoint = free_endpoint()
    arguments = [sys.executable, __file__, sender, endpoint, str(size), str(count)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    began_s = time.process_time()
    took_s = receive(endpoint)
    worked_s = time.process_time() - began_s + float(process.communicate(b"\n")[0])
    return count / took_s, worked_s / count * 1e6


def turn(case: str) -> dict[str, tuple[float, float]]:
    """Let bare zenoh and penstock take one turn each."""
    size, count, _ = CASES[case]
    if case.startswith("source"):
        raw = {"key": "bench/**", "raw": True}
        return {
            "bare": rate("bare", size, count, lambda at: receive_by_callback(at, count)),
            "penstock": rate("bare", size, count, lambda at: read_all(ZenohSource(listen=[at], **raw), count)),
        }
    return {
        "bare": rate("bare", size, count, lambda at: receive_bare(at, count)),
        "penstock": rate(
            "penstock",
            size,
            count,
            lambda at: read_all(ZenohSource(key="bench/**", listen=[at], until_end=True), count),
        ),
    }


def main() -> None:
    """Run all cases, or one."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    for case in sys.argv[2:3] or CASES:
        turns = [turn(case) for _ in range(rounds)]
        median = {how: statistics.median(each[how][0] for each in turns) for how in turns[0]}
        cpu_us = {how: statistics.median(each[how][1] for each in turns) for how in turns[0]}
        spread = {how: [round(edge(each[how][0] for each in turns)) for edge in (min, max)] for how in turns[0]}
        ratio = median["penstock"] / median["bare"]
        print(
            json.dumps(
                {
                    "case": case,
                    **{how: round(value, 1) for how, value in median.items()},
                    "ratio": round(ratio, 2),
                    "goal": CASES[case][2],
                    "spread": spread,
                    "turns": {how: [each[how][0] for each in turns] for how in turns[0]},
                    "cpu_us": {how: round(each, 2) for how, each in cpu_us.items()},
                    "ratio_of_cpu": round(cpu_us["bare"] / cpu_us["penstock"], 2),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) == 5:
        send(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
