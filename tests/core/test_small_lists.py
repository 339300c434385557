"""Small lists on an edge wait together, and records that several nodes hold do not change."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.run.edges.chunk import END, Chunk
from penstock.run.edges.edge import LiveEdge
from penstock.run.edges.inbox import Inbox

LONG_S = 30.0
POLICIES = [ps.Block(), ps.DropOldest(), ps.DropNewest(), ps.Sample(2), ps.Latest()]


def record(seq, size=0):
    return ps.Record(bytes(size), channel="c", seq=seq)


def test_single_records_wait_together():
    """Records put one by one are taken as one list, and the put lists are unchanged."""
    inboxes = Inbox(), Inbox()
    edges = [LiveEdge(inbox, "a >> b", ps.edge()) for inbox in inboxes]
    lists = [[record(seq)] for seq in range(5)]
    for records in lists:
        for edge in edges:
            edge.put(1, records)
    edges[0].put(1, [record(5)])
    assert [len(edge.items) for edge in edges] == [1, 1]
    assert [[each.seq for each in inbox.get(LONG_S).records] for inbox in inboxes] == [[*range(6)], [*range(5)]]
    assert [len(records) for records in lists] == [1] * 5
    assert [edge.waiting_bytes for edge in edges] == [0, 0]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_counts_hold_with_every_policy(policy, data):
    """Any sequence of puts and takes: records are taken or dropped, in order; only those after a drop are marked."""
    inbox = Inbox()
    capacity = data.draw(st.integers(1, 8))
    edge = LiveEdge(inbox, "a >> b", ps.edge(capacity=capacity, capacity_bytes=5000, when_full=policy))
    taken, seq = [], 0
    for _ in range(data.draw(st.integers(0, 12))):
        if data.draw(st.booleans()) and edge.waiting:
            taken += inbox.get(LONG_S).records
            continue
        sizes = data.draw(st.lists(st.sampled_from([0, 1, 900]), min_size=1, max_size=capacity))
        records = [record(seq + number, size) for number, size in enumerate(sizes)]
        if isinstance(policy, ps.Block | ps.Sample) and edge.free(1400) < len(records):
            continue  # it would wait
        edge.put(1, records)
        seq += len(records)
        assert edge.waiting <= capacity
    while edge.waiting:
        taken += inbox.get(LONG_S).records
    seqs = [each.seq for each in taken]
    assert seqs == sorted(seqs)
    assert edge.put_count == seq == edge.taken_count + edge.dropped.total()
    assert len(seqs) == edge.taken_count
    assert edge.waiting_bytes == 0
    gaps = {now.seq for before, now in zip([record(-1), *taken], taken, strict=False) if now.seq != before.seq + 1}
    assert gaps == {each.seq for each in taken if each.discontinuity}


def test_a_lane_that_waits_is_woken_by_single_records():
    """Records put one by one are all taken, however the putting and taking threads interleave."""
    inbox = Inbox()
    edge = LiveEdge(inbox, "a >> b", ps.edge(capacity=3))
    taken = []

    def take():
        while isinstance(item := inbox.get(LONG_S), Chunk):
            taken.extend(each.seq for each in item.records)

    taking = threading.Thread(target=take)
    taking.start()
    for seq in range(5000):
        edge.put(1, [record(seq)])
    edge.control(END)
    taking.join(LONG_S)
    assert taken == list(range(5000))
