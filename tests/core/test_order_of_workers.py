"""The order of records behind several workers, however their lists, barriers and late results interleave."""

from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import EndOfSource
from penstock.run.edges.chunk import Barrier, Chunk
from penstock.run.edges.edge import LiveEdge
from penstock.run.edges.inbox import Inbox


@pytest.mark.parametrize("aligned", [False, True])
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_lists_are_taken_in_turn(aligned, data):
    """Lists of ordered workers are taken in the order in which they were sent, each before the barrier behind it."""
    workers = data.draw(st.integers(2, 4))
    inbox = Inbox(in_turn=True, aligned=aligned)
    edges = [LiveEdge(inbox, "a >> b", ps.edge(), counted=True) for _ in range(workers)]
    taken, turn, sent = [], 0, 0

    def take():
        while (item := inbox.get(0.0)) is not None:
            taken.append(item.records[0].data if isinstance(item, Chunk) else item)

    for checkpoint in range(1, data.draw(st.integers(2, 5))):
        coming = [[] for _ in range(workers)]
        late = data.draw(st.lists(st.integers(0, workers - 1), max_size=2))
        for _ in range(data.draw(st.integers(0, 6))):
            coming[turn].append(sent)
            sent += 1
            turn = (turn + 1) % workers
        for worker in late:  # at any place among its lists
            coming[worker].insert(data.draw(st.integers(0, len(coming[worker]))), "late")
        for each in coming:
            each.append(Barrier(checkpoint))
        while any(coming):
            worker = data.draw(st.sampled_from([number for number in range(workers) if coming[number]]))
            item = coming[worker].pop(0)
            if isinstance(item, Barrier):
                edges[worker].control(item)
            else:
                edges[worker].put(1, [ps.Record(item)], late=item == "late")
            if data.draw(st.booleans()):
                take()
        take()
        assert [item for item in taken if isinstance(item, int)] == list(range(sent))
        assert taken.count("late") == len(late)
        assert [index for index, item in enumerate(taken) if item == Barrier(checkpoint)] == [len(taken) - 1]
        taken = [item for item in taken if isinstance(item, int)]


_seqs = itertools.count()


class Tail:
    """Pass records on, and return one more at the end."""

    def __call__(self, record):
        return record

    def flush(self):
        return [ps.Record("late", channel="late", seq=next(_seqs))]


class Endless:
    """Return numbered records, a few at once, until `stop` is set."""

    gives = "any"

    def __init__(self):
        self.stop = threading.Event()
        self.next = 0

    def open(self):
        pass

    def read(self, max_records, timeout_s):
        if self.stop.wait(0.0002):
            raise EndOfSource("end")
        first, self.next = self.next, self.next + 3
        return [ps.Record(number, channel="numbers", seq=number) for number in range(first, self.next)]

    def close(self):
        pass


def test_replacing_ordered_workers_keeps_the_order():
    """The last results of replaced workers are stored, and the records that follow keep their order."""
    source, seen, store = Endless(), threading.Semaphore(0), []

    def keep(record):
        store.append(record)
        seen.release()
        return record

    flow = ps.source(source) >> ps.processor(Tail, workers=2, name="work") >> ps.processor(keep) >> ps.store("null")
    with ps.Pipeline(flow, checkpoint_every_s=0.01).start() as run:
        for _ in range(5):
            for _ in range(30):
                assert seen.acquire(timeout=20)
            run.replace("work", ps.processor(Tail, workers=2, name="work"))
        source.stop.set()
        report = run.wait(20)
    assert report.ok, report
    assert [each.data for each in store if each.channel == "numbers"] == list(range(source.next))
    assert len([each for each in store if each.channel == "late"]) >= 2 * 5
