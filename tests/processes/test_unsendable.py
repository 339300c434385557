"""A record that a source in a process gives and that cannot be sent costs itself, not its neighbours."""

from __future__ import annotations

import penstock as ps
from penstock.dead_letters import read_dead_letters


def test_a_record_that_cannot_be_sent_costs_itself(place, placed, tmp_path):
    """Its neighbours are stored, what can be kept of it is a dead letter, and the position moves on with them."""
    given = placed.Unsendable(count=6, odd={1: "data", 4: "metadata"})
    source = ps.source(given, name="driver", place="process")
    store = ps.store("memory")
    pipeline = ps.Pipeline(source >> store, dead_letters=tmp_path / "dead")
    records, report = [], pipeline.run()
    assert report.received == 6
    assert report.stored == 4
    assert report.dead_lettered == 2
    assert not report.errors
    records = [letter.parent for letter in read_dead_letters(tmp_path / "dead")]
    assert [(record.channel, record.seq) for record in records] == [("c", 1), ("c", 4)]
    assert "lambda" in str(records[0].data)
    assert records[1].data == 4
    assert all("not_kept" in record.metadata for record in records)
    assert (tmp_path / "committed").read_text() == "6"
