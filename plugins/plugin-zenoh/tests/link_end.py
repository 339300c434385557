"""One end of a link: `python link_end.py send|receive ENDPOINT COUNT SIZE RATE TIMEOUT_S DIRECTORY SETTLE_S`."""

from __future__ import annotations

import json
import sys
import time

import penstock as ps
from penstock_zenoh.source import ZenohSource
from penstock_zenoh.store import ZenohStore

ROLE, ENDPOINT = sys.argv[1:3]
COUNT, SIZE, RATE, TIMEOUT_S = int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), float(sys.argv[6])
WAITS = {"timeout_s": TIMEOUT_S, "settle_s": float(sys.argv[8])}


def records():
    began = time.monotonic()
    print(json.dumps({"begun": True}), flush=True)
    for number in range(COUNT):
        time.sleep(max(0.0, began + number / RATE - time.monotonic()))
        yield ps.Record(number.to_bytes(8, "big") + bytes(SIZE - 8), channel="cam", seq=number)


def main():
    seen = []
    if ROLE == "send":
        store = ZenohStore(key="lab/cam", connect=ENDPOINT.split(","), **WAITS)
        report = ps.Pipeline(
            ps.source(records(), name="numbers") >> ps.store(store, name="link", retry=ps.Retry(times=1)),
            dead_letters=sys.argv[7],
        ).run()
    else:
        source = ZenohSource(key="lab/**", listen=[ENDPOINT], until_end=True, **WAITS)

        def look(record):
            seen.append(int.from_bytes(record.data[:8], "big"))
            return record

        report = ps.Pipeline(
            ps.source(source, name="link") >> ps.processor(look) >> ps.store("null"), dead_letters=sys.argv[7]
        ).run()
    told = {
        "ok": report.ok,
        "stored": report.stored,
        "dead": report.dead_lettered,
        "lost_upstream": report.lost_upstream,
        "in_order": seen == sorted(set(seen)),
        "distinct": len(set(seen)),
        "problems": report.problems,
        "report": str(report),
    }
    print(json.dumps(told), flush=True)


main()
