"""Heavy records pass several processors one by one, with the same results and errors as in lists."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import penstock as ps
from penstock.builtin.memory import MemoryStore
from penstock.run.lanes import lane

HEAVY = 2**17
LONG_S = 30.0


def plus_one(record):
    return record.replace(data=record.data + 1)


def same(record):
    return record


def odd_ones(record):
    return record if record.data[0] % 2 else None


def fifth_fails(record):
    if record.seq == 5:
        raise ValueError("five")
    return plus_one(record)


def third_exits(record):
    if record.seq == 3:
        raise SystemExit("three")
    return record


def twice(record):
    return [record, plus_one(record)] if record.seq % 4 == 1 else record


def by_hand(coords, data, metadata):
    data += 1
    metadata["gain"] = 2
    return coords, data, metadata


def renamed(record):
    return record.replace(seq=record.seq // 2) if record.seq > 6 else record


def other_channel(record):
    return record.replace(channel="b") if record.seq > 4 else record


def as_values(record):
    return record.data + 1


def generated(record):
    yield record
    if record.seq == 2:
        yield plus_one(record)


def odd_fields(record):
    return record.replace(seq=np.int64(record.seq), time_ns=1e9)


CHAINS = [
    (plus_one, same, plus_one),
    (same, odd_ones, plus_one),
    (plus_one, fifth_fails, twice),
    (third_exits, plus_one, same),
    (twice, twice, plus_one),
    (by_hand, plus_one, by_hand),
    (same, renamed, plus_one, odd_ones),
    (other_channel, plus_one),
    (as_values, generated, plus_one),
    (odd_fields, same),
]


def led(chain, tmp_path, records):
    """Run records through a chain; return the stored ones, and the account of each processor."""
    store = MemoryStore()
    flow = ps.Flow.of(ps.source(records))
    for number, function in enumerate(chain):
        flow = flow >> ps.processor(function, name=f"p{number}", retry=ps.Retry(times=1))
    report = ps.Pipeline(flow >> ps.store(store), dead_letters=tmp_path / "dead").run()
    stored = [(r.channel, r.seq, type(r.seq), int(r.data[0]), dict(r.metadata)) for r in map(store.get, store.keys())]
    counted = [
        (n.records_in, n.passed, n.extra, n.discarded, n.dead_lettered, n.last_error)
        for n in map(report.account.node, (f"p{number}" for number in range(len(chain))))
    ]
    assert report.balanced, report
    return sorted(stored), counted, report.errors


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "+".join(function.__name__ for function in chain))
@pytest.mark.parametrize("gap", [None, 4])
def test_heavy_records_are_treated_like_light_ones(chain, gap, tmp_path, monkeypatch):
    """Results, names, counts and errors do not depend on the size of the records."""

    def records():
        return [ps.Record(np.array([n, n]), channel="a", seq=n, discontinuity=n == gap) for n in range(12)]

    by_lists = led(chain, tmp_path / "1", records())
    led_singly = []
    singly = lane.lead_singly
    monkeypatch.setattr(lane, "HEAVY_BYTES", 0)
    monkeypatch.setattr(lane, "lead_singly", lambda *given: led_singly.append(given) or singly(*given))
    assert led(chain, tmp_path / "2", records()) == by_lists
    assert led_singly


def test_a_heavy_record_passes_all_processors_before_the_next():
    """The result of one processor is in the cache when the next one reads it."""
    order = []

    def note(name, record):
        order.append((name, record.seq))
        return record

    frames = [ps.Record(np.zeros(HEAVY, "uint8"), channel="a", seq=n) for n in range(20)]
    flow = ps.source(frames) >> (lambda record: note("first", record)) >> (lambda record: note("second", record))
    report = ps.Pipeline(flow >> ps.store("null")).run()
    assert report.ok
    assert order == [(name, n) for n in range(20) for name in ("first", "second")]
    assert report.account.node("list").received == 20


def test_an_abort_among_heavy_records_loses_none_silently():
    """A run that is aborted while heavy records pass its processors reports the lost ones."""
    at_work, go = threading.Event(), threading.Event()

    def wait(record):
        if record.seq == 9:
            at_work.set()
            assert go.wait(LONG_S)
        return record

    frames = [ps.Record(np.zeros(HEAVY, "uint8"), channel="a", seq=n) for n in range(20)]
    run = ps.Pipeline(ps.source(frames) >> same >> wait >> ps.store("null")).start()
    assert at_work.wait(LONG_S)
    stopping = threading.Thread(target=lambda: run.stop(drain=False))
    stopping.start()
    go.set()
    stopping.join(LONG_S)
    assert run.report.balanced, run.report
    assert run.report.lost == run.report.received - run.report.stored > 0
