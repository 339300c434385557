"""A publisher whose link breaks and comes back: what is missed is sent again, and a gap before that is not a loss."""

from __future__ import annotations

from types import SimpleNamespace

import zenoh

from penstock_zenoh import wire
from penstock_zenoh.arrivals import Arrivals

STORE, SOURCE, OTHER = "00aa" * 4, "00bb" * 4, "00cc" * 4


def sample(key: str, number: int, key_number: int, *, again: str | None = None) -> SimpleNamespace:
    attachment = wire.attachment(STORE, number, key_number)
    if again is not None:
        attachment = wire.repetition(again, attachment)
    return SimpleNamespace(
        key_expr=key, kind=zenoh.SampleKind.PUT, payload=b"x", attachment=zenoh.ZBytes(attachment), number=number
    )


class Source:
    """Arrivals as a source has them, without a network."""

    def __init__(self) -> None:
        self.arrivals = Arrivals(100, 1 << 20, source=SOURCE)

    def get(self, *samples: SimpleNamespace) -> list[int]:
        self.arrivals.put(samples, when_full="exceed")
        return [arrival.samples[0].number for arrival in self.arrivals.pop(100)]

    def break_link(self) -> None:
        self.arrivals.on_token(STORE, "process 1 on elsewhere", is_there=False)
        self.arrivals.on_token(STORE, "process 1 on elsewhere", is_there=True)

    def receipt(self) -> tuple[int, int, int]:
        (publisher,) = self.arrivals.publishers.values()
        receipt = self.arrivals.receipt(publisher, SOURCE)
        return receipt.received, receipt.taken, receipt.lost


def test_what_overtakes_the_repetition_is_sent_again_in_order():
    """A record that is published before the store has noticed that a source is back waits for those before it."""
    source = Source()
    assert source.get(*(sample("a", n + 1, n) for n in range(3))) == [1, 2, 3]
    source.break_link()
    assert source.get(sample("a", 6, 5)) == []
    assert source.receipt() == (3, 3, 0)
    assert source.get(*(sample("a", n + 1, n, again=SOURCE) for n in range(3, 6)), sample("a", 7, 6)) == [4, 5, 6, 7]
    assert source.receipt() == (7, 7, 0)
    assert source.arrivals.lost == {}


def test_a_receipt_names_nothing_beyond_what_may_be_missed_on_another_key():
    """Of several keys, one may go on without a gap while another has one: the store must not forget that."""
    source = Source()
    assert source.get(sample("a", 1, 0), sample("b", 2, 0)) == [1, 2]
    source.break_link()
    assert source.get(sample("b", 4, 1)) == [4]
    assert source.receipt() == (2, 2, 0)
    again = [sample("a", 3, 1, again=SOURCE), sample("b", 4, 1, again=SOURCE), sample("a", 5, 2)]
    assert source.get(*again) == [3, 5]
    assert source.receipt() == (5, 5, 0)
    assert source.arrivals.lost == {}


def test_a_repetition_for_another_source_changes_nothing():
    """What another source has missed comes here a second time, and is left out."""
    source = Source()
    assert source.get(*(sample("a", n + 1, n) for n in range(3))) == [1, 2, 3]
    assert source.get(sample("a", 2, 1, again=OTHER), sample("a", 3, 2, again=OTHER), sample("a", 4, 3)) == [4]
    source.break_link()
    assert source.get(sample("a", 4, 3, again=OTHER), sample("a", 6, 5, again=OTHER)) == []
    assert source.get(sample("a", 5, 4, again=SOURCE), sample("a", 6, 5, again=SOURCE)) == [5, 6]
    assert source.receipt() == (6, 6, 0)


def test_a_mark_says_that_nothing_was_missed():
    """A store that has sent nothing since the break says so, and records go on at once."""
    source = Source()
    assert source.get(sample("a", 1, 0)) == [1]
    source.break_link()
    assert source.get(sample("a", 2, 1)) == [2]
    assert source.receipt()[0] == 1
    source.arrivals.on_mark(STORE, wire.Mark(0, 1))
    assert source.receipt() == (2, 2, 0)


def test_what_the_store_gave_up_is_counted_by_its_final_mark():
    """A source that was away for too long counts what is missing up to the final mark, and nothing behind it."""
    source = Source()
    assert source.get(sample("a", 1, 0)) == [1]
    source.break_link()
    assert source.get(sample("a", 7, 6)) == []
    source.arrivals.on_mark(STORE, wire.Mark(1, 5, False, {"a": (0, 5)}, True))
    (publisher,) = source.arrivals.publishers.values()
    publisher.pending_since -= 60
    source.arrivals.on_mark(STORE, wire.Mark(1, 5, False, {"a": (0, 5)}, True))
    assert source.receipt() == (5, 1, 4)
    assert source.get(sample("a", 6, 5, again=SOURCE), sample("a", 7, 6, again=SOURCE)) == [6, 7]
    assert source.receipt() == (7, 7, 4)
    assert source.arrivals.lost == {"a": 4}


def test_without_a_break_a_gap_is_a_loss():
    """A gap while the publisher was there is counted at once: nothing is sent again."""
    source = Source()
    assert source.get(sample("a", 1, 0), sample("a", 4, 3)) == [1, 4]
    assert source.receipt() == (4, 4, 2)
