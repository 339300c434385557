"""Channels end by their end mark, or after a time without records; their decoders are flushed first."""

from __future__ import annotations

import threading

import attrs
import pytest

import penstock as ps
from penstock.builtin.push import PushSource
from penstock.decoder import end_of_channel
from penstock.run.steps.idle_channels import IdleChannels


@attrs.define(slots=False)
class Late:
    """A decoder that returns each record with the next one, and the last one when it is flushed."""

    idle_rest_s: float | None = None
    idle_close_s: float | None = None

    made = []

    def __attrs_post_init__(self):
        self.inside, self.closed, self.rested, self.skipped = [], False, 0, 0

    def open(self):
        Late.made.append(self)

    def close(self):
        self.closed = True

    def decode(self, record):
        if record.data == "skip":
            self.skipped += 1
            return []
        self.inside.append(record)
        return [self._of(self.inside.pop(0))] if len(self.inside) > 1 else []

    def flush(self):
        given, self.inside = [self._of(record) for record in self.inside], []
        return given

    def reset(self):
        self.inside.clear()

    def rest(self):
        self.rested += 1

    def held(self):
        return self.inside

    @staticmethod
    def _of(record):
        return record.replace(parent=record)


@pytest.fixture(autouse=True)
def _forget():
    Late.made.clear()


def records(channel, data):
    return [ps.Record(each, channel=channel, seq=seq) for seq, each in enumerate(data)]


def run(*given):
    """Run these records through the decoder; return the report."""
    return ps.Pipeline(ps.source(list(given)) >> ps.decoder(Late()) >> ps.store("memory")).run()


def test_an_end_mark_closes_the_channel():
    """The decoder's last records are emitted, it is closed before the run ends, and the account adds up."""
    ends = end_of_channel("a", seq=2)
    report = run(*records("a", "xy"), ends, *records("b", "z"))
    assert (report.stored, report.ok) == (3, True)
    assert [each.closed for each in Late.made] == [True, True]


def test_a_mark_on_the_last_record():
    """A record with data that ends its channel is decoded first; the channel may begin again."""
    first, second = records("a", "xy")
    last = second.replace(metadata={"channel_ends": True})
    report = run(first, last, *(each.replace(seq=each.seq + 2) for each in records("a", "uv")))
    assert (report.stored, report.ok) == (4, True)
    assert len(Late.made) == 2


def test_a_mark_for_a_channel_that_nobody_knows():
    """It does nothing."""
    report = run(end_of_channel("nobody", seq=0), *records("a", "x"))
    assert (report.stored, report.ok) == (1, True)


def test_what_a_decoder_skips_is_discarded_by_channel():
    """The records that a decoder skips are in the report, by channel."""
    report = run(*records("a", ["x", "skip", "skip", "y"]))
    assert report.stored == 2
    assert report.ok
    assert report.discarded == 2


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("penstock.run.steps.idle_channels.monotonic", clock)
    return clock


def test_channels_rest_first_and_are_closed_later(clock):
    """A channel without a record rests after one time and is over after another; one that had a record is awake."""
    idle = IdleChannels(rest_s=2, close_s=10)
    assert idle.wait_s() is None
    idle.used(["a", "b"])
    assert idle.wait_s() == 2
    clock.now = 1.5
    idle.used(["b"])
    clock.now = 2.0
    assert (idle.to_rest(), idle.to_close()) == (["a"], [])
    assert idle.wait_s() == 1.5
    clock.now = 4.0
    assert idle.to_rest() == ["b"]
    idle.used(["a"])
    assert idle.wait_s() == 2
    clock.now = 11.5
    assert idle.to_close() == ["b"]
    clock.now = 14.0
    assert idle.to_close() == ["a"]
    assert idle.wait_s() is None


def test_off_means_never(clock):
    """Without limits nothing is due."""
    idle = IdleChannels(rest_s=None, close_s=None)
    idle.used(["a"])
    clock.now = 1e9
    assert (idle.wait_s(), idle.to_rest(), idle.to_close()) == (None, [], [])


def test_an_idle_channel_is_closed_while_the_run_goes_on():
    """After `idle_close_s` the last record is emitted, although the source is still open and returns nothing."""
    arrived = threading.Event()
    push = PushSource(capacity=8)
    flow = ps.source(push) >> ps.decoder(Late(idle_close_s=0.05)) >> ps.processor(lambda record: arrived.set())
    with ps.Pipeline(flow).start():
        push.put(records("a", "x"), timeout_s=20)
        assert arrived.wait(20)
        push.end()
    assert Late.made[-1].closed
