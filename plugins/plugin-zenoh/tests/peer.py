"""The other process of a test: a store or a source that obeys lines of JSON and answers each with one.

`python peer.py store '{"key": …}'` obeys open, write, sync, close; `… source …` obeys open, read, drain, close.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import threading
import time

from penstock.errors import EndOfSource, PenstockError
from penstock.record import Record
from penstock_zenoh.wire import SOURCES


def payload(seq: int, size: int) -> bytes:
    """Return bytes that are unique for this number."""
    return hashlib.blake2b(seq.to_bytes(8, "big"), digest_size=32).digest() * (size // 32) + bytes(size % 32)


def main() -> None:
    role, settings = sys.argv[1], json.loads(sys.argv[2])
    if role == "foreign":
        publish(**settings)
        return
    if role == "store":
        from penstock_zenoh.store import ZenohStore as component
    else:
        from penstock_zenoh.source import ZenohSource as component
    node = component(**settings)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = act(node, order)
        except PenstockError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        answer["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(answer), flush=True)


def act(node, order):
    match order.pop("do"):
        case "write":
            return write(node, **order)
        case "read":
            return {"seqs": [record.seq for record in node.read(order["most"], order["timeout_s"])]}
        case "drain":
            return drain(node, **order)
        case method:
            getattr(node, method)()
            return {}


def publish(*, rendezvous, key, count, size):
    """Publish with plain zenoh, and report each message."""
    import zenoh

    config = zenoh.Config()
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5("listen/endpoints", "[]")
    config.insert_json5("connect/endpoints", json.dumps([rendezvous]))
    session = zenoh.open(config)
    publisher = session.declare_publisher(key, congestion_control=zenoh.CongestionControl.BLOCK)
    seen = threading.Event()  # a source's token; that zenoh calls the publisher matched is not enough
    watcher = session.liveliness().declare_subscriber(
        SOURCES, zenoh.handlers.Callback(lambda _: seen.set(), indirect=False), history=True
    )
    assert seen.wait(60)
    watcher.undeclare()
    for n in range(count):
        publisher.put(payload(n, size))
        print(json.dumps({"written": n + 1}), flush=True)
    session.close()


def write(node, *, count, size=10, channel="a", first=0, batch=50, tell=False):
    end = first + count
    for start in range(first, end, batch):
        seqs = range(start, min(start + batch, end))
        node.write([Record(payload(seq, size), channel=channel, seq=seq, time_ns=seq) for seq in seqs])
        if tell:
            print(json.dumps({"written": seqs[-1] + 1}), flush=True)
    return {"written": count}


def drain(node, *, size=10, work_s=0.0, most=100):
    """Read to the end; sleep `work_s` seconds after each read, like a slow consumer."""
    count, wrong, error = 0, [], ""
    try:
        while True:
            records = node.read(most, 1.0)
            for record in records:
                if record.seq != count or record.data != payload(count, size) or record.discontinuity:
                    wrong.append(record.seq)
                count += 1
            if records and work_s:
                time.sleep(work_s)
    except EndOfSource:
        pass
    except PenstockError as failed:
        error = str(failed)
    return {"count": count, "wrong": wrong[:5], "error": error, "lost": dict(node.lost_upstream())}


if __name__ == "__main__":
    main()
