"""Lists of small records as one message, large data without a copy: only among penstock sources, and never twice."""

from __future__ import annotations

import contextlib
import os
import threading
import time

import pytest
import zenoh
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.codec import decode
from penstock.coords import DataCoordinates
from penstock.errors import CodecError, ConfigError
from penstock.record import Record
from penstock_zenoh import packing, publishing, wire
from penstock_zenoh.session import Network
from penstock_zenoh.source import ZenohSource
from penstock_zenoh.store import ZenohStore

WITHIN_S = 20


@pytest.fixture
def lists(monkeypatch) -> list[int]:
    """How many records each message had that was a list."""
    sizes: list[int] = []

    def pack(records):
        sizes.append(len(records))
        return packing.pack_list(records)

    monkeypatch.setattr(publishing, "pack_list", pack)
    return sizes


def repeat(fn, times=1000):
    """Call until it raises."""
    for _ in range(times):
        fn()


def records(count: int, first: int = 0, channel: str = "a") -> list[Record]:
    return [Record(b"%d" % seq, channel=channel, seq=seq) for seq in range(first, first + count)]


def read(source, count: int, most: int = 1000) -> list[Record]:
    got: list[Record] = []
    deadline = time.monotonic() + WITHIN_S
    while len(got) < count and time.monotonic() < deadline:
        got += source.read(most, 0.5)
    assert len(got) == count
    return got


def until_packed(store, source, lists) -> int:
    """Write pairs until they go as one message: tokens take a moment to arrive. Return how many were written."""
    written = 0
    while not lists:
        store.write(records(2, written))
        written += 2
        read(source, 2)
    return written


def test_a_list_of_small_records_is_one_message(endpoint, opened, lists):
    """While only sources of penstock listen, a list goes as one message, and arrives as the records that it was."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    store = opened(ZenohStore(key="lab/{{ channel }}", rendezvous=endpoint))
    first = until_packed(store, source, lists)
    lists.clear()
    sent = [
        *records(50, first),
        Record(b"x", channel="b", metadata={"a": [1, {"b": 2}]}, coords=DataCoordinates(t=1), discontinuity=True),
        Record(b"y", channel="b", seq=1, metadata={"n": None, "t": 1.5}, time_ns=7),
        Record({"no": "bytes"}, channel="b", seq=2),
    ]
    store.write(sent)
    got = read(source, len(sent))
    assert lists == [50, 2]
    for one, other in zip(sent, got, strict=True):
        for field in ("data", "channel", "seq", "time_ns", "coords", "metadata", "discontinuity"):
            assert getattr(one, field) == getattr(other, field), field


def test_a_program_that_is_not_penstock_gets_single_records_and_nobody_gets_one_twice(endpoint, opened, lists):
    """While anything else is connected, each record is a message that it can read; then they are packed again."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint))
    written = until_packed(store, source, lists)
    foreign = Network(rendezvous=endpoint).open()
    subscriber = foreign.declare_subscriber("lab/**", zenoh.handlers.FifoChannel(100))
    seen: list[int] = []
    while not seen:  # a subscription takes a moment to arrive
        store.write(records(2, written))
        written += 2
        while (sample := subscriber.handler.try_recv()) is not None:
            seen.append(decode(sample.payload.to_bytes()).seq)
        read(source, 2)
    lists.clear()
    store.write(records(20, written))
    got = read(source, 20)
    assert [record.seq for record in got] == list(range(written, written + 20))
    while seen[-1] != written + 19:
        seen.append(decode(subscriber.handler.recv().payload.to_bytes()).seq)
    assert seen == list(range(seen[0], written + 20))
    assert lists == []
    written += 20
    foreign.close()
    until_packed(store, source, lists)
    assert source.lost_upstream() == {}


def test_a_client_behind_a_source_gets_single_records(endpoint, opened, lists):
    """A client that hears through a source's session is seen by nobody else: the source withdraws its announcement."""
    source = opened(ZenohSource(key="lab/**", listen=[endpoint]))
    store = opened(ZenohStore(key="lab/a", connect=[endpoint]))
    written = until_packed(store, source, lists)
    client = Network(connect=(endpoint,), mode="client").open()
    subscriber = client.declare_subscriber("lab/**", zenoh.handlers.FifoChannel(100))
    while True:
        store.write(records(2, written))
        written += 2
        read(source, 2)
        sample = subscriber.handler.try_recv()
        if sample is not None and wire.read_packed(sample.attachment.to_bytes()) is None:
            break
    lists.clear()
    store.write(records(20, written))
    read(source, 20)
    assert lists == []
    client.close()
    until_packed(store, source, lists)


def test_it_can_be_forced(endpoint, opened, lists):
    """`bundle=False` never packs, `bundle=True` does with strangers connected."""
    foreign = Network(rendezvous=endpoint).open()
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    never = opened(ZenohStore(key="lab/a", rendezvous=endpoint, bundle=False))
    always = opened(ZenohStore(key="lab/b", rendezvous=endpoint, bundle=True))
    never.write(records(10))
    read(source, 10)
    assert lists == []
    always.write(records(10))
    read(source, 10)
    assert lists == [10]
    foreign.close()
    with pytest.raises(ConfigError, match="bundle='yes'"):
        ZenohStore(key="a", bundle="yes")


def test_a_reader_may_take_a_part_of_a_list(endpoint, opened, lists):
    """`read(3)` of a message with 10 records gives 3; the store reports what was not read when the source leaves."""
    source = ZenohSource(key="lab/**", rendezvous=endpoint)
    source.open()
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint, bundle=True))
    store.write(records(10))
    got = read(source, 9, most=3)
    assert [record.seq for record in got] == list(range(9))
    source.close()
    with pytest.raises(ps.errors.StoreError, match="left 1 records untaken when it disappeared"):
        repeat(store.sync)


@pytest.mark.parametrize("bundle", [True, False])
def test_lists_keep_to_the_room_of_a_source(bundle, endpoint, opened):
    """A list never exceeds the capacity of a source, packed or not."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, capacity=4, until_end=True))
    store = ZenohStore(key="lab/a", rendezvous=endpoint, bundle=bundle)
    store.open()
    writer = threading.Thread(target=lambda: (store.write(records(40)), store.close()))
    writer.start()
    got = []
    for _ in range(40):
        got += read(source, 1, most=1)
        assert len(source._open.arrivals.waiting) <= 4
        assert sum(each.stop - each.start for each in list(source._open.arrivals.waiting)) <= 4
    writer.join()
    assert [record.seq for record in got] == list(range(40))


@pytest.mark.parametrize("bundle", [True, False])
def test_large_data_arrive_whole(bundle, endpoint, opened):
    """Data of a MiB arrive with all of their record, as a payload of their own or not."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint, bundle=bundle))
    sent = [Record(os.urandom(1 << 20), channel="x", seq=n, time_ns=5, metadata={"n": [n]}) for n in range(3)]
    store.write(sent)
    got = read(source, 3)
    assert [(one.data, one.seq, one.metadata) for one in got] == [(one.data, one.seq, one.metadata) for one in sent]


def test_a_reader_is_given_what_a_cache_holds(endpoint, opened):
    """Of large records `read` gives about a MiB at a time, and the rest with the next calls."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint, timeout_s=20))
    store.write([Record(bytes(400_000), channel="x", seq=n) for n in range(8)])
    store.sync()
    given_ = []
    while sum(map(len, given_)) < 8:
        given_.append(source.read(1000, 5))
    assert max(map(len, given_)) <= 3
    assert [record.seq for records in given_ for record in records] == list(range(8))


def test_a_bad_record_in_a_list_costs_itself(endpoint, opened, lists):
    """A record in a list that cannot be written is named; its neighbours arrive in order."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint, bundle=True))
    bad = Record(b"x", channel="a", seq=3, metadata={"handle": object()})
    with pytest.raises(ps.errors.StoreError, match="1 of 7 records not published") as error:
        store.write([*records(3), bad, *records(3, 4)])
    assert [record for record, _ in error.value.failed] == [bad]
    assert [record.seq for record in read(source, 6)] == [0, 1, 2, 4, 5, 6]
    assert source.lost_upstream() == {}


def test_a_list_that_is_none_is_counted(endpoint, opened):
    """Whatever a stranger sends as a packed message is counted and left out; the next record arrives."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    session = Network(rendezvous=endpoint).open()
    sender = wire.new_id()
    publisher = session.declare_publisher("lab/a", congestion_control=zenoh.CongestionControl.BLOCK)
    good = packing.pack_list(records(2))
    while not publisher.matching_status.matching:
        time.sleep(0.01)
    messages = [
        (good, wire.packed_attachment(sender, 1, 0, count=3)),
        (b"\xff" * 10, wire.packed_attachment(sender, 4, 3, count=2)),
        (good[:-1], wire.packed_attachment(sender, 6, 5, count=2)),
        (b"x", wire.packed_attachment(sender, 8, 7, head=b"no head")),
        (good, wire.packed_attachment(sender, 9, 8, count=2)),
    ]
    got: list[Record] = []
    while not got:  # the first messages may come before the subscription does
        for payload, attachment in messages:
            publisher.put(payload, attachment=attachment)
        got += source.read(10, 0.5)
    assert [record.seq for record in got] == [0, 1]
    assert got[0].discontinuity
    assert source.rejected() == 4
    session.close()


_metadata = st.dictionaries(
    st.text(max_size=5),
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers()),
    max_size=3,
)
_records = st.builds(
    Record,
    st.binary(max_size=50),
    channel=st.text(max_size=5),
    seq=st.integers(-(1 << 63), (1 << 63) - 1),
    time_ns=st.integers(-(1 << 63), (1 << 63) - 1),
    metadata=_metadata,
    discontinuity=st.booleans(),
)


@settings(deadline=None)
@given(st.lists(_records, min_size=1, max_size=5))
def test_what_is_packed_is_unpacked(given_):
    """Any list of records is the same when it has been packed and unpacked, or is refused by the codec."""
    try:
        payload = packing.pack_list(given_)
    except (CodecError, OverflowError, UnicodeEncodeError):
        return
    for one, other in zip(given_, packing.unpack_list(payload, len(given_)), strict=True):
        assert (one.data, one.channel, one.seq, one.time_ns) == (other.data, other.channel, other.seq, other.time_ns)
        assert (dict(one.metadata), one.discontinuity) == (dict(other.metadata), other.discontinuity)


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(1, 3))
def test_garbage_is_no_list(payload, count):
    """Whatever bytes come are a list of records or a CodecError."""
    with contextlib.suppress(CodecError):
        assert len(packing.unpack_list(payload, count)) == count


def test_a_full_memory_waits(endpoint, opened):
    """A store keeps no more than `memory_bytes` that its sources have not taken: `write` waits until they take some."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint, memory_bytes=2500, bundle=False))
    written: list[int] = []

    def write() -> None:
        for seq in range(12):
            store.write([Record(bytes(1000), channel="a", seq=seq)])
            written.append(seq)

    writer = threading.Thread(target=write)
    writer.start()
    for seq in range(12):
        (record,) = read(source, 1, most=1)
        assert record.seq == seq
        assert len(written) <= seq + 1 + 3
        while source.read(0, 0.02):
            pass
    writer.join(WITHIN_S)
    assert len(written) == 12


def test_what_waits_before_a_full_memory_can_go_to_the_disk(endpoint, opened, tmp_path):
    """With an edge that spills, the pipeline continues while its zenoh store waits, and everything arrives in order."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, until_end=True))
    edge = ps.edge(capacity=8, when_full=ps.Spill(str(tmp_path / "spill")))
    link = ps.store("zenoh", key="lab/a", rendezvous=endpoint, memory_bytes=5000, name="link")
    numbers = ps.source([Record(bytes(100), channel="a", seq=n) for n in range(5000)], name="numbers")
    with ps.Pipeline(numbers >> edge >> link).start() as run:
        try:
            while run.stats().edge("numbers", "link").put < 5000 or not list((tmp_path / "spill").glob("*.log")):
                run.wait(0.02)  # nobody reads: all are in memory, or on the disk
            assert run.stats().node("link").stored < 5000
            got = read(source, 5000)
        except BaseException:
            run.abort()  # else the end of the block would wait for a reader
            raise
    assert [record.seq for record in got] == list(range(5000))
    assert run.report.ok, str(run.report)
