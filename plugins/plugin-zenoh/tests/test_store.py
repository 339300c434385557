"""ZenohStore alone: keys, errors, receipts."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import zenoh
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import CannotConnectToStoreError, ConfigError, StoreError
from penstock.record import Record
from penstock.store import Store
from penstock_zenoh.keys import announced_key
from penstock_zenoh.source import ZenohSource
from penstock_zenoh.store import ZenohStore


def repeat(fn, *arguments, times=1000):
    """Call until it raises."""
    for _ in range(times):
        fn(*arguments)


def test_it_is_a_store():
    """The store fulfils the contract."""
    assert isinstance(ZenohStore(key="a"), Store)


def test_an_endpoint_out_of_reach_is_named(endpoint):
    """Connecting without a listener is a CannotConnectToStoreError within `timeout_s`."""
    store = ZenohStore(key="a", connect=[endpoint], timeout_s=0.3)
    start = time.monotonic()
    with pytest.raises(CannotConnectToStoreError, match=rf"zenoh store 'a': no answer at {endpoint} within 0.3 s"):
        store.open()
    assert time.monotonic() - start < 5
    store.close()


@pytest.mark.parametrize("key", ["", "lab//a", "/a", "a/", "lab/*", "a#b", "@penstock/x", "{{ channel", 3])
def test_a_bad_key_is_named_when_it_is_set(key):
    """A key on which nothing can be published is refused before anything opens."""
    with pytest.raises(ConfigError, match="key="):
        ZenohStore(key=key)


def test_nobody_there_is_an_error_that_says_what_to_compare(endpoint, opened):
    """Without a source for `timeout_s` nothing is published, and all records of the call are named as not written."""
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint, timeout_s=0.2))
    opened(ZenohSource(key="lab/b", rendezvous=endpoint))
    records = [Record(b"x", seq=seq) for seq in range(3)]
    with pytest.raises(StoreError, match=r"0 of 1 sources subscribe to 'lab/a' after 0\.2 s") as error:
        store.write(records)
    assert [record for record, _ in error.value.failed] == records
    assert error.value.retryable


def test_records_that_cannot_be_sent_are_named_and_the_others_go(endpoint, opened):
    """A record that lacks a field of the template, or whose value is not a key, is named; its neighbours are sent."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    store = opened(ZenohStore(key="lab/{{ name }}", rendezvous=endpoint))
    good = [Record(b"x", seq=seq, metadata={"name": "cam"}) for seq in range(2)]
    bad = [Record(b"x"), *(Record(b"x", metadata={"name": name}) for name in ("a*", "", "a//b", "x?y"))]
    with pytest.raises(StoreError, match="5 of 7 records not published") as error:
        store.write([good[0], *bad, good[1]])
    assert [record for record, _ in error.value.failed] == bad
    assert not error.value.retryable
    seqs: list[int] = []
    while len(seqs) < 2:
        seqs += [record.seq for record in source.read(10, 5)]
    assert seqs == [0, 1]


def test_channels_have_keys_of_their_own(endpoint, opened):
    """A source on one channel's key gets that channel only, without a gap."""
    source = opened(ZenohSource(key="lab/one", rendezvous=endpoint, until_end=True))
    opened(ZenohSource(key="lab/two", rendezvous=endpoint))
    store = opened(ZenohStore(key="lab/{{ channel }}", rendezvous=endpoint))
    store.write([Record(b"x", channel=channel, seq=seq) for seq in range(5) for channel in ("one", "two")])
    store.sync()
    records: list[Record] = []
    while len(records) < 5:
        records += source.read(10, 5)
    assert [(r.channel, r.seq, r.discontinuity) for r in records] == [("one", seq, False) for seq in range(5)]
    assert source.lost_upstream() == {}


def test_sync_waits_for_receipt_not_for_the_reader(endpoint, opened):
    """sync() returns when the records are in the source's process, read or not."""
    source = opened(ZenohSource(key="lab/a", rendezvous=endpoint))
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint, timeout_s=5))
    store.write([Record(b"x", seq=seq) for seq in range(100)])
    store.sync()
    records: list[Record] = []
    while len(records) < 100:
        more = source.read(200, 0)
        assert more
        records += more


def test_a_source_that_leaves_with_records_unread_is_an_error_at_the_end(endpoint):
    """Records that a source had not read when it closed are lost, and close() reports them and ends."""
    source = ZenohSource(key="lab/a", rendezvous=endpoint)
    source.open()
    store = ZenohStore(key="lab/a", rendezvous=endpoint, timeout_s=5)
    store.open()
    store.write([Record(b"x", seq=seq) for seq in range(10)])
    store.sync()
    assert len(source.read(4, 5)) == 4
    source.close()
    with pytest.raises(StoreError, match="left 6 records untaken when it disappeared"):
        repeat(store.sync)
    store.close()
    store.close()


def test_a_write_that_waits_for_room_ends_when_the_store_is_closed_elsewhere(endpoint, opened):
    """close() in another thread ends the wait of a writer for a source."""
    import threading

    source = opened(ZenohSource(key="lab/a", rendezvous=endpoint, capacity=2))
    store = ZenohStore(key="lab/a", rendezvous=endpoint, timeout_s=5)
    store.open()
    store.write([Record(b"x", seq=seq) for seq in range(2)])
    failed: list[StoreError] = []

    def write() -> None:
        try:
            store.write([Record(b"x", seq=2)])
        except StoreError as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    store.close()
    writer.join(10)
    assert not writer.is_alive()
    assert "closed" in str(failed[0]) or "not open" in str(failed[0])
    assert len(source.read(10, 1)) == 2


class _Swallowing:
    """A publisher whose next messages vanish without an error, as in a session that zenoh is replacing."""

    def __init__(self, publisher, count: int) -> None:
        self._publisher, self.left = publisher, count
        self.undeclare = publisher.undeclare

    def put(self, *arguments, **settings) -> None:
        self.left -= 1
        if self.left < 0:
            self._publisher.put(*arguments, **settings)


def test_messages_that_vanish_while_the_source_is_full_are_repeated(endpoint, opened):
    """If messages vanish and the capacity of the source is used up by them, they are sent again, once and in order."""
    source = opened(ZenohSource(key="lab/a", rendezvous=endpoint, capacity=8))
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint, timeout_s=30, bundle=False))
    store.write([Record(b"x", seq=0)])
    publishers = store._open._publishers
    publishers["lab/a"] = swallowing = _Swallowing(publishers["lab/a"], 8)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(store.write, [Record(b"x", seq=seq) for seq in range(1, 40)])
        seqs: list[int] = []
        until = time.monotonic() + 30
        while len(seqs) < 40 and time.monotonic() < until:
            seqs += [record.seq for record in source.read(10, 1)]
        if len(seqs) < 40:
            store.close()  # ends the wait of the writer
        writing.result()
    assert swallowing.left < 0
    assert seqs == list(range(40))
    assert source.lost_upstream() == {}
    store.sync()


def test_a_foreign_subscriber_gets_the_payloads(endpoint, opened):
    """A plain zenoh program receives the published records without receipts."""
    from penstock.codec import decode
    from penstock_zenoh.session import Network

    session = Network(rendezvous=endpoint).open()
    subscriber = session.declare_subscriber("lab/**", zenoh.handlers.RingChannel(10))
    store = opened(ZenohStore(key="lab/{{ channel }}", rendezvous=endpoint, wait_for_subscribers=0))
    record = None
    while record is None:  # nobody waits for a foreign subscriber
        store.write([Record(b"x", channel="cam", seq=3)])
        record = subscriber.try_recv()
    assert (str(record.key_expr), decode(record.payload.to_bytes()).seq) == ("lab/cam", 3)
    session.close()


_chunk = st.text("abc", min_size=1, max_size=3)


@given(st.lists(st.one_of(_chunk, st.just("{{ channel }}"), st.just("x{{ seq }}y")), min_size=1, max_size=4), _chunk)
def test_the_announced_key_includes_every_key(chunks, channel):
    """Every key of the template matches the key expression that the store announces."""
    text = "/".join(chunks)
    key = text.replace("{{ channel }}", channel).replace("{{ seq }}", "7")
    assert zenoh.KeyExpr(announced_key(text)).includes(key)


def test_listing_imports_no_zenoh():
    """The hooks offer all components without importing zenoh, numpy or msgspec's neighbours."""
    code = (
        "import sys; from penstock_zenoh.hooks import penstock_sources as a, penstock_stores as b;"
        "print([c.name for c in (*a(), *b())], sorted({'zenoh', 'numpy', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_env())
    assert done.stdout.strip() == "['zenoh', 'hero', 'zenoh', 'hero'] []"


def _env() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
