"""The worker of a decoder to which a channel goes."""

from __future__ import annotations

from collections import Counter

import pytest

import penstock as ps
from penstock.run.edges.outlet import ByChannel

NAMES = ["k_north", "k_south", "k_east", "k_west", "Å", "", "\ud800", "c0"]


class Edge:
    """Note the records of a worker."""

    def __init__(self):
        self.records = []

    def put(self, received_ns, records):
        """Note a list."""
        self.records += records


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_workers_get_equally_many_channels(workers):
    """Whatever channels are called, their numbers per worker differ by at most one."""
    edges = [Edge() for _ in range(workers)]
    outlet = ByChannel(edges)
    for number in range(5):
        outlet.put(0, [ps.Record(None, channel=name, seq=number) for name in NAMES])
    counts = [len({record.channel for record in edge.records}) for edge in edges]
    assert sum(counts) == len(NAMES)
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("remembered", [0, 3, 10_000])
def test_a_channel_stays_with_its_worker(remembered):
    """All records of a channel go to one worker, in order, even if there are more channels than are remembered."""
    edges = [Edge() for _ in range(3)]
    outlet = ByChannel(edges, remembered=remembered)
    for number in range(20):
        outlet.put(0, [ps.Record(None, channel=name, seq=number) for name in NAMES[number % 4 :]])
    homes = Counter(channel for edge in edges for channel in {record.channel for record in edge.records})
    assert set(homes.values()) == {1}
    for edge in edges:
        for name in NAMES:
            seqs = [record.seq for record in edge.records if record.channel == name]
            assert seqs == sorted(seqs)
