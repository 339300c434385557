"""Records per second through store and source, beside a bare zenoh publisher and subscriber of the same QoS.

Two processes on loopback; bare and penstock take turns, so that both see the same machine. Prints one line of JSON for
each size, with the median of the rounds and their ratio: `python bench_zenoh.py [ROUNDS]`.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time

import zenoh

from penstock.errors import EndOfSource
from penstock.record import Record
from penstock_zenoh.session import Network
from penstock_zenoh.source import ZenohSource
from penstock_zenoh.store import ZenohStore

SIZES = {"1 KiB": (1024, 20_000), "2 MB": (2_000_000, 200)}


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
        for first in range(0, count, 50):
            store.write([Record(payload, channel="x", seq=seq) for seq in range(first, min(first + 50, count))])
        store.close()
        return
    session = Network(connect=(endpoint,)).open()
    publisher = session.declare_publisher(
        "bench/x", congestion_control=zenoh.CongestionControl.BLOCK, reliability=zenoh.Reliability.RELIABLE
    )
    while not publisher.matching_status:
        time.sleep(0.01)
    for _ in range(count):
        publisher.put(payload)
    sys.stdin.readline()  # until the other side has everything
    session.close()


def receive(how: str, size: int, count: int) -> float:
    """Start a sender, receive everything, return records per second from the first to the last."""
    endpoint = free_endpoint()
    arguments = [sys.executable, __file__, how, endpoint, str(size), str(count)]
    sender = subprocess.Popen(arguments, stdin=subprocess.PIPE)
    if how == "penstock":
        source = ZenohSource(key="bench/**", listen=[endpoint], until_end=True)
        source.open()
        start, got = 0.0, 0
        try:
            while True:
                records = source.read(256, 1.0)
                start = start or (time.perf_counter() if records else 0.0)
                got += len(records)
                if got == count:
                    took_s = time.perf_counter() - start
        except EndOfSource:
            source.close()
    else:
        session = Network(listen=(endpoint,)).open()
        subscriber = session.declare_subscriber("bench/**", zenoh.handlers.FifoChannel(256))
        for got in range(count):
            subscriber.recv().payload.to_bytes()
            if got == 0:
                start = time.perf_counter()
        took_s = time.perf_counter() - start
        session.close()
    sender.communicate(b"\n")
    return count / took_s


if __name__ == "__main__":
    if len(sys.argv) == 5:
        send(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        for name, (size, count) in SIZES.items():
            rates: dict[str, list[float]] = {"bare": [], "penstock": []}
            for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
                for how, each in rates.items():
                    each.append(receive(how, size, count))
            median = {how: statistics.median(each) for how, each in rates.items()}
            ratio = median["penstock"] / median["bare"]
            print(json.dumps({"size": name, **{h: round(m, 1) for h, m in median.items()}, "ratio": round(ratio, 2)}))
