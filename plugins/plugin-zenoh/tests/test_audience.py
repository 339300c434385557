"""The account that a store keeps of its sources, with messages in an order that the network gives rarely."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import msgspec
import zenoh

from penstock_zenoh import wire
from penstock_zenoh.audience import Audience


def token(kind) -> SimpleNamespace:
    key = wire.source_key("00ff", wire.SourceCard("lab/**", 8, 1000, "process 7 on vm"))
    return SimpleNamespace(key_expr=key, kind=kind)


def receipt(taken: int) -> SimpleNamespace:
    return SimpleNamespace(payload=zenoh.ZBytes(msgspec.msgpack.encode(wire.Receipt("00ff", 0, taken, taken, 0))))


def audience_with_two_sent() -> Audience:
    audience = Audience("lab/a")
    audience.on_token(token(zenoh.SampleKind.PUT))
    for number in (1, 2):
        assert audience.admit("lab/a", number, 10, at_least=1, timeout_s=1) is None
    return audience


def test_a_receipt_that_the_tokens_end_overtook_counts():
    """A source that took everything and left is no loss, even if its last receipt comes after the end of its token."""
    audience = audience_with_two_sent()
    audience.on_token(token(zenoh.SampleKind.DELETE))
    late = threading.Timer(0.05, audience.on_receipt, [receipt(2)])
    late.start()
    assert audience.confirm(lambda *_: None, totals={}, timeout_s=1) == []
    late.join()


def test_what_a_source_had_not_taken_when_it_left_is_a_loss_once():
    """A source that left with a record unread is named with their number, once."""
    audience = audience_with_two_sent()
    audience.on_receipt(receipt(1))
    audience.on_token(token(zenoh.SampleKind.DELETE))
    (problem,) = audience.confirm(lambda *_: None, totals=None, timeout_s=1)
    assert problem == "the source 'lab/**' (process 7 on vm) went away with 1 records that it had not taken"
    assert audience.confirm(lambda *_: None, totals=None, timeout_s=1) == []
