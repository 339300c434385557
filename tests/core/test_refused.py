"""A source that reports invalid messages, and one that is notified of durable records."""

from __future__ import annotations

import penstock as ps
from penstock.errors import EndOfSource
from penstock.record import Record


class Picky:
    """Return numbers; reject odd ones; record the durable ones."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def open(self) -> None:
        self.next = 0
        self.odd: list[tuple[Record, BaseException]] = []

    def read(self, max_records, timeout_s):
        if self.next == 10:
            raise EndOfSource("ten are enough")
        self.next += 2
        self.odd.append((Record(b"odd", seq=self.next - 1), ValueError("it is odd")))
        return [Record(b"even", seq=self.next - 2)]

    def take_refused(self):
        odd, self.odd = self.odd, []
        return odd

    def mark(self):
        return self.next

    def durable(self, position):
        self.told.append(position)

    def close(self) -> None:
        pass


def test_what_a_source_refuses_is_dead_lettered(tmp_path):
    """Invalid messages go to the dead letters with their bytes and reason; the counters add up."""
    source = Picky()
    pipeline = ps.Pipeline(ps.source(source, name="picky") >> ps.store("memory"), dead_letters=str(tmp_path / "dead"))
    report = pipeline.run()
    node = report.account.node("picky")
    assert (report.received, report.stored, node.dead_lettered) == (10, 5, 5)
    assert node.last_error == "ValueError: it is odd"
    assert report.balanced
    assert not report.ok


def test_a_source_refuses_by_its_policy():
    """`on_error="skip"` applies to records that a source rejects, too."""
    report = ps.Pipeline(ps.source(Picky(), name="picky", on_error="skip") >> ps.store("memory")).run()
    assert (report.received, report.stored, report.account.node("picky").skipped) == (10, 5, 5)


def test_a_source_is_told_what_is_durable(tmp_path):
    """A source that cannot be reread gets, at each checkpoint, the mark up to which all is durable."""
    source = Picky()
    ps.Pipeline(ps.source(source) >> ps.store("memory"), dead_letters=str(tmp_path / "dead")).run()
    assert source.told[-1] == 10
    assert source.told == sorted(source.told)
