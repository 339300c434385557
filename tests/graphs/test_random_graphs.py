"""Random graphs with random faults: whatever happens, the account balances, and what should be stored is."""

from __future__ import annotations

import threading

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import EndOfSource, SourceError, StoreError

QUICK = ps.Retry(times=2, wait_initial_s=0.001, wait_max_s=0.001, jitter_s=0.001)


@attrs.define(kw_only=True)
class Counting:
    """Give numbers on two channels, in lists of changing length; raise once if told."""

    count: int
    fail_at: int | None
    next: int = attrs.field(default=0, init=False)

    def open(self):
        pass

    def read(self, max_records, timeout_s):
        if self.fail_at is not None and self.next >= self.fail_at:
            self.fail_at = None
            raise SourceError("hiccup")
        if self.next >= self.count:
            raise EndOfSource("done")
        upto = min(self.count, self.next + 1 + min(max_records - 1, self.next % 7))
        records = [ps.Record(n, channel="ab"[n % 2], seq=n // 2) for n in range(self.next, upto)]
        self.next = upto
        return records

    def close(self):
        pass


@attrs.define(kw_only=True)
class Odd:
    """Pass, discard, double or raise, by the number."""

    modulus: int
    raises: bool
    seen: list = attrs.field(factory=list, eq=False)

    def __call__(self, record):
        rest = record.data % self.modulus
        if rest == 1:
            return None
        if rest == 2:
            return [record, record]
        if rest == 3 and self.raises:
            raise ValueError("three")
        return record


@attrs.define(kw_only=True)
class Flaky:
    """Keep records; fail every so often, sometimes naming what was not written."""

    every: int
    calls: int = attrs.field(default=0, init=False)
    kept: list = attrs.field(factory=list, init=False, eq=False)

    def open(self):
        pass

    def write(self, records):
        self.calls += 1
        if self.every and self.calls % self.every == 0:
            raise OSError("not now")
        bad = [record for record in records if record.data % 11 == 10]
        self.kept.extend(record for record in records if record.data % 11 != 10)
        if bad:
            raise StoreError("bad ones", failed=[(record, ValueError("bad")) for record in bad])

    def sync(self):
        if self.every and self.calls % (self.every + 1) == 0:
            raise OSError("no sync now")

    def close(self):
        pass


@attrs.define(kw_only=True)
class Packets:
    """A decoder that keeps records until there are enough; raise at some, and let the flush fail, if told."""

    size: int
    raises: bool
    kept: list = attrs.field(factory=list, init=False, eq=False)

    def decode(self, record):
        if self.raises and record.data % 13 == 5:
            raise ValueError("no packet")
        self.kept.append(record)
        return self.leave() if len(self.kept) >= self.size else []

    def leave(self):
        kept, self.kept = self.kept, []
        return kept

    def held(self):
        return list(self.kept)

    def reset(self):
        self.kept = []

    def flush(self):
        if self.raises and self.kept:
            raise ValueError("the flush fails")
        return self.leave()[:1]


class Keeper(Packets):
    """A processor that does the same, and gives what it has when a moment is over."""

    def __call__(self, record):
        self.kept.append(record)
        return self.leave()[0] if len(self.kept) >= self.size else None

    def wait_s(self):
        return 0.001 if self.kept else None

    def expire(self):
        return self.leave()[:1]


edges = st.sampled_from(
    [None, ps.edge(capacity=1), ps.edge(capacity=3), ps.edge(capacity=64), ps.edge(capacity_bytes=1000)]
    + [ps.edge(capacity=2, when_full=policy) for policy in ("drop_oldest", "drop_newest", "latest", "sample(3)")]
)


@st.composite
def middles(draw):
    """A processor or decoder of some kind, with some options."""
    kind = draw(st.sampled_from(["odd", "odd", "keeper", "decoder"]))
    on_error = draw(st.sampled_from(["dead_letter", "skip", "dead_letter"]))
    workers = draw(st.sampled_from([1, 1, 2, 3]))
    if kind == "odd":
        odd = Odd(modulus=draw(st.integers(1, 6)), raises=draw(st.booleans()))
        return ps.processor(odd, workers=workers, ordered=draw(st.booleans()), on_error=on_error)
    size, raises = draw(st.integers(1, 5)), draw(st.booleans())
    if kind == "keeper":
        return ps.processor(Keeper(size=size, raises=raises), on_error=on_error)
    return ps.decoder(Packets(size=size, raises=raises), workers=workers, on_error=on_error)


@st.composite
def graphs(draw):
    """Some sources, layers of processors and decoders joined at random, some stores."""
    made = []
    layer = [
        ps.source(Counting(count=draw(st.integers(0, 60)), fail_at=draw(st.none() | st.integers(0, 40))), retry=QUICK)
        for _ in range(draw(st.integers(1, 3)))
    ]
    flows = list(layer)
    for _ in range(draw(st.integers(0, 3))):
        fed = draw(st.lists(st.sampled_from(flows), min_size=1, max_size=3, unique_by=id))
        middle = draw(middles())
        edge = draw(edges)
        flows.append(fed >> edge >> middle if edge else fed >> middle)
    for _ in range(draw(st.integers(1, 3))):
        fed = draw(st.lists(st.sampled_from(flows), min_size=1, max_size=2, unique_by=id))
        store = ps.store(Flaky(every=draw(st.sampled_from([0, 0, 2, 3]))), retry=QUICK)
        edge = draw(edges)
        made.append(fed >> edge >> store if edge else fed >> store)
    used = {node for flow in made for node, _, _ in ps.Flow.of(flow).edges}
    loose = [flow for flow in flows if ps.Flow.of(flow).tails[0] not in used]
    return [*made, *[flow >> ps.processor(lambda record: None) for flow in loose]]


@given(flows=graphs(), abort=st.booleans() | st.just(False))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_the_counters_always_add_up(flows, abort, tmp_path):
    """Any graph with any faults, drained or aborted: the sums agree, and no thread is left."""
    run = ps.Pipeline(*flows, checkpoint_every_s=0.005, dead_letters=tmp_path).start()
    report = run.stop(drain=False) if abort else run.wait(60)
    assert report is not None, "the run hangs"
    assert report.balanced, str(report)
    assert all(node.buffered >= 0 for node in report.account.nodes)
    if not abort:
        assert report.in_flight == 0
        assert report.lost == 0
        for node in report.account.nodes:
            if node.role == "source":
                assert not any("lane" in error for error in report.errors), report.errors
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("penstock")] == []


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest", "sample(4)"])
@given(lists=st.lists(st.integers(1, 9), min_size=1, max_size=30), capacity=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_what_a_full_edge_keeps(policy, lists, capacity):
    """Without a reader, an edge keeps what its policy says, counts the rest exactly, and marks the gaps."""
    from penstock.run.edges.chunk import Chunk
    from penstock.run.edges.edge import LiveEdge
    from penstock.run.edges.inbox import Inbox

    inbox = Inbox()
    edge = LiveEdge(inbox, "a >> b", ps.edge(capacity=capacity, when_full=policy))
    number, put = 0, []
    for length in lists:
        records = [ps.Record(n, channel="xy"[n % 2]) for n in range(number, number + length)]
        number += length
        if policy.startswith("sample") and number > capacity:
            break  # it waits for a reader
        put += records
        edge.put(1, records)
    got = []
    while isinstance(chunk := inbox.get(0, most=5), Chunk):
        got += chunk.records
    data = [record.data for record in got]
    assert edge.put_count == len(put) == edge.taken_count + edge.dropped.total()
    assert edge.waiting == edge.waiting_bytes == 0
    if policy == "drop_oldest":
        assert data == [record.data for record in put[-capacity:]]
    elif policy == "drop_newest":
        assert data == [record.data for record in put[:capacity]]
    elif policy == "latest":
        assert sorted(data) == sorted({record.channel: record.data for record in put}.values())
    else:
        assert data == [record.data for record in put]
    expected = 0 if policy == "drop_newest" else len(edge.dropped)
    assert sum(record.discontinuity for record in got) <= 2
    if policy == "drop_oldest" and capacity >= 2:
        assert sum(record.discontinuity for record in got) == expected
