"""Programs that appear and disappear are in the log and in the report; their channels end if asked for."""

from __future__ import annotations

import time

import pytest
import zenoh

import penstock as ps
from penstock.decoder import CHANNEL_ENDS
from penstock.errors import EndOfSource
from penstock.record import Record
from penstock_zenoh.hero.source import HeroSource
from penstock_zenoh.hero.store import HeroStore
from penstock_zenoh.presence_log import PresenceLog
from penstock_zenoh.session import Network
from penstock_zenoh.source import ZenohSource
from penstock_zenoh.store import ZenohStore

WITHIN_S = 20


def _texts(source):
    return [each.text for each in source.remarks()]


def until(condition) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read(source, count: int) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + WITHIN_S
    while len(records) < count and time.monotonic() < deadline:
        records += source.read(100, 0.5)
    assert len(records) == count
    return records


def test_publishers_that_come_and_go_are_in_the_report(endpoint):
    """A store that opens and closes is two notes of the run, and the run is ok."""
    source = ZenohSource(key="lab/**", rendezvous=endpoint)
    with ps.Pipeline(ps.source(source, name="lab") >> ps.store("null", name="kept")).start() as run:
        store = ZenohStore(key="lab/a", rendezvous=endpoint)
        store.open()
        store.write([Record(b"x")])
        until(lambda: run.stats().node("kept").stored == 1)
        store.close()
        until(lambda: len(_texts(source)) == 2)
    assert run.report.ok, str(run.report)
    first, second = run.report.notes
    assert "the publisher of 'lab/a' (process" in first
    assert first.endswith("appeared")
    assert second.endswith("closed")


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_channel_whose_publisher_has_gone_ends(how, endpoint, opened, peer):
    """With `end_marks` the channels of a store that closed, or was killed, end after their last record."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, end_marks=True))
    mine = opened(ZenohStore(key="lab/mine", rendezvous=endpoint))
    mine.write([Record(b"x", channel="mine", seq=0)])
    read(source, 1)
    store = peer("store", key="lab/{{ channel }}")
    store.do("open")
    store.do("write", count=3, channel="b")
    store.do("write", count=2, channel="a")
    read(source, 5)
    if how == "closed":
        store.do("close")
    else:
        store.do("sync")
        store.kill()
    ends = read(source, 2)
    assert [(end.channel, end.seq, end.data, dict(end.metadata)) for end in ends] == [
        ("a", 2, None, {CHANNEL_ENDS: True}),
        ("b", 3, None, {CHANNEL_ENDS: True}),
    ]
    until(lambda: any(("closed" if how == "closed" else "vanished without closing") in note for note in _texts(source)))


def test_end_marks_come_before_the_end(endpoint, opened):
    """A source with `until_end` returns the end marks, then ends."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, end_marks=True, until_end=True))
    store = ZenohStore(key="lab/a", rendezvous=endpoint)
    store.open()
    store.write([Record(b"x", channel="c", seq=4)])
    store.close()
    assert [record.seq for record in read(source, 2)] == [4, 5]
    with pytest.raises(EndOfSource):
        source.read(1, WITHIN_S)


def test_tokens_of_other_programs(endpoint, opened):
    """A foreign program with a token is reported when it appears and disappears, and its channel ends."""
    source = opened(ZenohSource(key="lab/*", rendezvous=endpoint, raw=True, tokens="lab/*/alive", end_marks=True))
    session = Network(rendezvous=endpoint).open()
    token = session.liveliness().declare_token("lab/cam1/alive")
    publishers = [
        session.declare_publisher(f"lab/cam{n}", congestion_control=zenoh.CongestionControl.BLOCK) for n in (1, 2)
    ]
    until(lambda: all(each.matching_status.matching for each in publishers) and _texts(source))
    seen: set[str] = set()
    while len(seen) < 2:
        for each in publishers:
            each.put(b"x")
        seen |= {record.channel for record in source.read(10, 0.2)}
    token.undeclare()
    records: list[Record] = []
    while not any(CHANNEL_ENDS in record.metadata for record in records):
        records += source.read(10, 0.5)
    assert [record.channel for record in records if CHANNEL_ENDS in record.metadata] == ["lab/cam1"]
    assert _texts(source) == ["the token 'lab/cam1/alive' appeared", "the token 'lab/cam1/alive' disappeared"]
    session.close()


def test_heros_that_come_and_go(endpoint, opened):
    """A discoverable HERO is reported when it appears and disappears, also when it returns under the same name."""
    source = opened(HeroSource(object_selector="lab/*", event_name="data", listen=[endpoint], bounds=()))
    for round_ in range(2):
        hero = HeroStore(hero="lab/cam", event_name="data", connect=[endpoint], discoverable=True)
        hero.open()
        until(lambda want=2 * round_ + 1: len(_texts(source)) == want)
        hero.close()
        until(lambda want=2 * round_ + 2: len(_texts(source)) == want)
    assert _texts(source) == [f"HERO 'lab/cam' of realm 'heros' {what}" for what in ("appeared", "disappeared") * 2]


def test_many_changes_of_presence_are_counted():
    """A report names the first changes, and the number of the others."""
    presence = PresenceLog("source")
    for number in range(25):
        presence.note(f"{number} appeared")
    assert presence.notes() == [*(f"{number} appeared" for number in range(20)), "and 5 more changes of presence"]
