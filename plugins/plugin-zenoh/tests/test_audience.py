"""A store's state of its sources, with messages in an order that is rare on a network."""

from __future__ import annotations

import os
import socket
import threading
from types import SimpleNamespace

import msgspec
import zenoh

from penstock_zenoh import wire
from penstock_zenoh.audience import BEHIND, Audience

DEAD = 2**22 + 1  # no process of Linux has this number


def token(kind, pid: int = DEAD) -> SimpleNamespace:
    key = wire.source_key("00ff", wire.SourceCard("lab/**", 8, 1000, f"process {pid} on {socket.gethostname()}"))
    return SimpleNamespace(key_expr=key, kind=kind)


def receipt(taken: int, *, mark: int = 0, leaves: bool = False) -> SimpleNamespace:
    said = wire.Receipt("00ff", mark, taken, taken, 0, leaves)
    return SimpleNamespace(payload=zenoh.ZBytes(msgspec.msgpack.encode(said)))


def audience_with_two_sent(pid: int = DEAD, timeout_s: float = 30.0) -> Audience:
    audience = Audience("lab/a", timeout_s)
    audience.on_token(token(zenoh.SampleKind.PUT, pid))
    for number in (1, 2):
        assert audience.admit("lab/a", number, 10, at_least=1, timeout_s=1) is None
    return audience


def test_a_receipt_that_the_tokens_end_overtook_counts():
    """A source that took everything and left is not a loss, even if its last receipt arrives after its token ended."""
    audience = audience_with_two_sent()
    audience.on_token(token(zenoh.SampleKind.DELETE))
    late = threading.Timer(0.05, audience.on_receipt, [receipt(2)])
    late.start()
    assert audience.confirm(lambda *_: None, at_end=True, timeout_s=1) == []
    late.join()


def test_what_a_source_had_not_taken_when_it_left_is_a_loss_once():
    """A source that left with a record unread is named with their number, once."""
    audience = audience_with_two_sent()
    audience.on_receipt(receipt(1))
    audience.on_token(token(zenoh.SampleKind.DELETE))
    (problem,) = audience.confirm(lambda *_: None, at_end=False, timeout_s=1)
    where = f"the source 'lab/**' (process {DEAD} on {socket.gethostname()})"
    assert problem == f"{where} left 1 records untaken when it disappeared"
    assert audience.confirm(lambda *_: None, at_end=False, timeout_s=1) == []


def test_a_source_that_comes_back_is_sent_what_it_lacks():
    """A token that disappears and returns is a broken link: the unreceived messages are named."""
    audience = audience_with_two_sent(pid=os.getpid())
    audience.on_receipt(receipt(1))
    audience.on_token(token(zenoh.SampleKind.DELETE, os.getpid()))
    assert audience.admit("lab/a", 3, 10, at_least=1, timeout_s=0) is None
    assert not audience.is_heard("lab/a")
    assert audience.needed_from() == 2
    audience.on_token(token(zenoh.SampleKind.PUT, os.getpid()))
    assert audience.admit("lab/a", 4, 10, at_least=1, timeout_s=0) == BEHIND
    (listener,) = audience.behind()
    assert audience.unreceived(listener) == [2, 3]
    assert not audience.behind()


def test_a_source_that_closes_is_not_waited_for():
    """A source that announces its end is removed at once, although its process lives."""
    audience = audience_with_two_sent(pid=os.getpid())
    audience.on_receipt(receipt(2, leaves=True))
    audience.on_token(token(zenoh.SampleKind.DELETE, os.getpid()))
    assert audience.needed_from() is None
    assert audience.confirm(lambda *_: None, at_end=False, timeout_s=1) == []


def test_a_source_that_stays_away_is_given_up():
    """After `timeout_s` a source that has not come back is a loss that is named, and nothing is kept for it."""
    audience = audience_with_two_sent(pid=os.getpid(), timeout_s=0.05)
    audience.on_token(token(zenoh.SampleKind.DELETE, os.getpid()))
    (problem,) = audience.confirm(lambda *_: None, at_end=False, timeout_s=5)
    assert "was disconnected for 0.05 s with untaken records: it counts them when it reconnects" in problem
    assert audience.needed_from() is None
