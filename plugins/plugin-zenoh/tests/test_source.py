"""ZenohSource alone: foreign publishers, gaps, invalid messages, ends, errors."""

from __future__ import annotations

import os
import socket
import threading
import time

import attrs
import msgspec
import pytest
import zenoh
from hypothesis import given
from hypothesis import strategies as st

from penstock.codec import encode_bytes
from penstock.errors import ConfigError, EndOfSource, SourceError
from penstock.record import Record
from penstock.source import Source, SupportsLoss
from penstock_zenoh import wire
from penstock_zenoh.session import Network
from penstock_zenoh.source import ZenohSource
from penstock_zenoh.store import ZenohStore

WITHIN_S = 20


@pytest.fixture
def foreign(endpoint):
    """A plain zenoh session."""
    session = Network(rendezvous=endpoint).open()
    yield session
    session.close()


def publisher_on(session, key: str):
    """Declare a publisher and wait until a source has shown its token, which it declares last.

    That zenoh calls the publisher matched is not enough: on a busy machine the first messages were lost all the same.
    """
    seen = threading.Event()
    publisher = session.declare_publisher(key, congestion_control=zenoh.CongestionControl.BLOCK)
    watcher = session.liveliness().declare_subscriber(
        wire.SOURCES, zenoh.handlers.Callback(lambda _: seen.set(), indirect=False), history=True
    )
    assert seen.wait(WITHIN_S)
    watcher.undeclare()
    return publisher


def read(source, count: int, most: int = 100) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + WITHIN_S
    while len(records) < count and time.monotonic() < deadline:
        records += source.read(most, 0.2)
    assert len(records) == count
    return records


def test_it_is_a_source_that_can_see_losses():
    """The source fulfils the contract and names its losses."""
    assert isinstance(ZenohSource(key="a"), Source)
    assert isinstance(ZenohSource(key="a"), SupportsLoss)


def test_it_returns_nothing_after_the_time_limit(endpoint, opened):
    """Without a publisher, read returns an empty sequence at its timeout, not before and not much later."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    start = time.monotonic()
    assert source.read(10, 0.3) == ()
    assert 0.3 <= time.monotonic() - start < 2
    assert source.read(10, 0) == ()


def test_a_raw_source_gives_foreign_payloads(endpoint, opened, foreign):
    """With raw=True a payload of a foreign publisher is the data, its key the channel, counted per key."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, raw=True))
    publisher_on(foreign, "lab/b").put(b"other")
    publisher = publisher_on(foreign, "lab/a")
    before_ns = time.time_ns()
    for n in range(3):
        publisher.put(b"%d" % n, encoding="text/plain")
    records = [record for record in read(source, 4) if record.channel == "lab/a"]
    assert [(r.seq, r.data) for r in records] == [(0, b"0"), (1, b"1"), (2, b"2")]
    assert records[0].metadata == {"key": "lab/a", "encoding": "text/plain", "time_from": "arrival"}
    assert before_ns <= records[0].time_ns <= time.time_ns()


def test_a_raw_source_takes_the_time_of_the_sender(endpoint, opened, foreign):
    """A timestamp of the sender is the record's time, to the microsecond."""
    source = opened(ZenohSource(key="lab/a", rendezvous=endpoint, raw=True))
    publisher = publisher_on(foreign, "lab/a")
    before_ns = time.time_ns()
    publisher.put(b"x", timestamp=foreign.new_timestamp())
    (record,) = read(source, 1)
    assert record.metadata["time_from"] == "sender"
    assert before_ns - 1_000 <= record.time_ns <= time.time_ns()


def test_foreign_publishers_may_send_records(endpoint, opened, foreign):
    """A payload of codec bytes without penstock's attachment is the record that it holds."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    publisher_on(foreign, "lab/a").put(encode_bytes(Record(b"x", channel="cam", seq=7, time_ns=9)))
    (record,) = read(source, 1)
    assert (bytes(record.data), record.channel, record.seq, record.time_ns) == (b"x", "cam", 7, 9)


def test_garbage_is_counted_and_left_out(endpoint, opened, foreign, caplog):
    """Messages that are not records do not end the source: they are counted and logged, and break the continuity."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    publisher = publisher_on(foreign, "lab/a")
    good = encode_bytes(Record(b"x", channel="cam"))
    for payload in (good, b"", b"garbage", os.urandom(1000), good[:-3] if len(good) < 9 else good[:8], good, good):
        publisher.put(payload)
    foreign.delete("lab/a", congestion_control=zenoh.CongestionControl.BLOCK)
    assert [record.discontinuity for record in read(source, 3)] == [False, True, False]
    while source.rejected() < 5:
        source.read(10, 0.1)
    assert source.rejected() == 5
    assert "zenoh source 'lab/**': a message on 'lab/a' is not a record and was skipped" in caplog.text


@pytest.mark.parametrize("end", [False, True])
def test_a_gap_is_counted_as_lost_upstream(endpoint, opened, foreign, end):
    """Records that never arrived are counted by their running numbers, and the next record has `discontinuity`."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, until_end=True))
    publisher = publisher_on(foreign, "lab/a")
    sender = wire.new_id()
    for number, key_number in ((5, 4), (6, 5), (9, 8), (10, 9)):
        record = Record(b"x", channel="cam", seq=key_number)
        publisher.put(encode_bytes(record), attachment=wire.attachment(sender, number, key_number))
    records = read(source, 4)
    assert [(r.seq, r.discontinuity) for r in records] == [(4, False), (5, False), (8, True), (9, False)]
    assert source.lost_upstream() == {"cam": 2}
    if end:  # the last three have been lost: the end tells, once they have had the time to arrive
        (source_id,) = tokens(foreign, wire.SOURCES, wire.SourceCard)
        mark = msgspec.msgpack.encode(wire.Mark(1, 13, True, {"lab/a": (0, 13)}, True))

        def send_and_read() -> None:
            foreign.put(wire.mark_key(sender, source_id), mark)
            source.read(10, 0.1)

        with pytest.raises(EndOfSource):
            repeat(send_and_read)
        assert source.lost_upstream() == {"cam": 5}


def tokens(session, key: str, card) -> set[str]:
    """Return the ids of the tokens there, without the bad ones of these tests, as soon as there is one."""
    found: set[str] = set()
    while not found:  # a token takes a moment to arrive
        cards = (wire.read_card(str(each.ok.key_expr), card) for each in session.liveliness().get(key))
        found = {each[0] for each in cards if each is not None} - {"00", "0011", "ff"}
    return found


def repeat(fn, *arguments, times=1000):
    """Call until it raises."""
    for _ in range(times):
        fn(*arguments)


def test_nonsense_on_the_control_keys_changes_nothing(endpoint, opened, foreign):
    """Forged tokens, marks and receipts are ignored by both ends."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint))
    store = opened(ZenohStore(key="lab/a", rendezvous=endpoint))
    store.write([Record(b"x")])
    bad = [
        foreign.liveliness().declare_token(f"{wire.PREFIX}/{kind}/{name}/{card}")
        for kind in ("source", "publisher")
        for name, card in (("00", "zz"), ("0011", "93"), ("ff", msgspec.msgpack.encode(["lab//", 1, 1, "x"]).hex()))
    ]
    (source_id,) = tokens(foreign, wire.SOURCES, wire.SourceCard)
    (store_id,) = tokens(foreign, wire.PUBLISHERS, wire.PublisherCard)
    for payload in (b"", b"\xff", msgspec.msgpack.encode([1]), os.urandom(50)):
        foreign.put(wire.receipt_key(store_id), payload)
        foreign.put(wire.mark_key(store_id, source_id), payload)
    foreign.put(wire.receipt_key(store_id), msgspec.msgpack.encode(wire.Receipt("nobody", 99, 99, 99, 0)))
    store.write([Record(b"x")])
    store.sync()
    assert len(read(source, 2)) == 2
    for token in bad:
        token.undeclare()


def test_a_store_on_another_key_is_not_waited_for(endpoint, opened):
    """A store whose keys this source does not subscribe to neither counts as a publisher nor ends it."""
    source = opened(ZenohSource(key="lab/one/**", rendezvous=endpoint, until_end=True))
    other = ZenohStore(key="lab/two/{{ channel }}", rendezvous=endpoint)
    mine = ZenohStore(key="lab/one/{{ channel }}", rendezvous=endpoint)
    for store in (other, mine):
        store.open()
    other.close()
    assert source.read(10, 0.2) == ()
    mine.write([Record(b"x", channel="c")])
    mine.close()
    assert len(source.read(10, 5)) == 1
    with pytest.raises(EndOfSource):
        source.read(10, 5)


def test_a_store_that_sends_nothing_ends_its_sources_too(endpoint, opened):
    """An empty stream ends as well."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, until_end=True))
    store = ZenohStore(key="lab/{{ channel }}", rendezvous=endpoint)
    store.open()
    while store._open._audience._listeners == {}:  # it must know the source before it can tell it anything
        store.sync()
    store.close()
    with pytest.raises(EndOfSource, match="all publishers have closed"):
        source.read(10, 5)


def test_a_publisher_that_never_comes_is_an_error_if_asked_for(endpoint, opened):
    """`first_within_s` ends the wait for a missing publisher with an error that names the settings to compare."""
    source = opened(ZenohSource(key="lab/**", rendezvous=endpoint, first_within_s=0.2))
    with pytest.raises(SourceError, match=r"zenoh source 'lab/\*\*': no publisher within 0.2 s: start it"):
        repeat(source.read, 10, 0.1, times=10)


def test_a_foreign_publisher_is_held_back(endpoint, opened, peer):
    """A foreign publisher that blocks is never more than the capacity, and what zenoh holds, ahead of the reader."""
    source = opened(ZenohSource(key="lab/a", rendezvous=endpoint, raw=True, capacity=4))
    publisher = peer("foreign", key="lab/a", count=60, size=1_000_000)
    written = 0
    for n in range(60):
        (record,) = read(source, 1, most=1)
        assert (record.seq, len(record.data)) == (n, 1_000_000)
        while not publisher.lines.empty():
            written = publisher.answer().get("written", written)
        assert written <= n + 1 + 2 * 4 + 16  # 16: zenoh's queue and the sockets' buffers
    assert publisher.process.wait(WITHIN_S) == 0


def test_closing_lets_a_publisher_go_that_was_held_back(endpoint, peer):
    """A source that closes while publishers stand before it does not hang, nor do they."""
    source = ZenohSource(key="lab/a", rendezvous=endpoint, raw=True, capacity=4)
    source.open()
    publisher = peer("foreign", key="lab/a", count=500, size=1_000_000)
    for _ in range(6):
        publisher.answer()
    start = time.monotonic()
    source.close()
    assert time.monotonic() - start < 5
    assert publisher.process.wait(WITHIN_S) == 0


def test_closing_again_and_closing_before_opening_do_nothing(endpoint):
    """close() may come any number of times, also after an open that failed."""
    source = ZenohSource(key="lab/a", connect=["tcp/127.0.0.1:1"], timeout_s=0.2)
    source.close()
    with pytest.raises(SourceError):
        source.open()
    source.close()
    again = attrs.evolve(source, connect=None, rendezvous=endpoint)
    again.open()
    with pytest.raises(SourceError, match="is open already"):
        again.open()
    again.close()
    again.close()
    with pytest.raises(SourceError, match=r"is not open: call open\(\) first"):
        again.read(1, 0)


def test_nothing_stays_open(endpoint):
    """Opening and closing leaves no file, socket or thread behind."""

    def once() -> None:
        source, store = ZenohSource(key="a", rendezvous=endpoint), ZenohStore(key="a", rendezvous=endpoint)
        source.open()
        store.open()
        store.write([Record(b"x")])
        store.close()
        source.close()

    once()  # zenoh keeps the threads of its runtime
    files, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    for _ in range(10):
        once()
    deadline = time.monotonic() + WITHIN_S
    while len(os.listdir("/proc/self/fd")) > files and time.monotonic() < deadline:
        pass  # zenoh closes sockets behind close()
    assert len(os.listdir("/proc/self/fd")) <= files
    assert len(os.listdir("/proc/self/task")) <= threads + 2  # its pools grow to two threads each


def test_an_endpoint_in_use_is_named(endpoint, opened):
    """Listening on a used endpoint is an immediate error that names it."""
    opened(ZenohSource(key="a", listen=[endpoint]))
    with pytest.raises(SourceError, match=rf"zenoh source 'a': cannot listen on {endpoint}: .*in use.*another port"):
        ZenohSource(key="a", listen=[endpoint]).open()


def test_an_endpoint_out_of_reach_is_named(endpoint):
    """Connecting without a listener is an error within `timeout_s` that names the remedy."""
    start = time.monotonic()
    with pytest.raises(SourceError, match=rf"no answer at {endpoint} within 0.3 s: start the other side"):
        ZenohSource(key="a", connect=[endpoint], timeout_s=0.3).open()
    assert time.monotonic() - start < 5


def test_a_rendezvous_that_is_not_zenoh_is_named():
    """A program on the rendezvous port that does not speak zenoh is an error, not a wait for ever."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        at = f"tcp/127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(SourceError, match=rf"{at} is in use by a program that does not answer as zenoh"):
            ZenohSource(key="a", rendezvous=at, timeout_s=0.3).open()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"key": "lab//a"}, "key='lab//a': is not a zenoh key expression"),
        ({"key": "cam*"}, "key='cam.*is not a zenoh key expression"),
        ({"key": ""}, "key=''"),
        ({"key": 3}, "key=3"),
        ({"key": "a", "capacity": 0}, "capacity=0: must be a whole number of at least 1"),
        ({"key": "a", "until_end": 1}, "until_end=1: must be True or False"),
        ({"key": "a", "timeout_s": 0}, "timeout_s=0: must be a number of seconds above 0"),
        ({"key": "a", "listen": [1]}, r"listen=\(1,\): must be a list of strings"),
    ],
)
def test_a_bad_setting_is_named_when_it_is_set(settings, message):
    """Settings are checked before anything opens, each error with the name and the value."""
    with pytest.raises(ConfigError, match=message):
        ZenohSource(**settings)


@pytest.mark.parametrize("config", [{"nope": {"x": 1}}, "{tra", {"transport": {"auth": {"usrpwd": {"user": 7}}}}])
def test_a_bad_configuration_is_an_error(config):
    """An invalid zenoh configuration is a ConfigError."""
    with pytest.raises(ConfigError, match="zenoh source 'a': "):
        ZenohSource(key="a", config=config).open()


def test_secrets_are_not_printed():
    """`config` may hold a password: it is in no repr and in no error."""
    secret = {"transport": {"auth": {"usrpwd": {"user": "me", "password": "hunter2"}}}, "nope": 1}
    source = ZenohSource(key="a", config=secret)
    assert "hunter2" not in repr(source)
    with pytest.raises(ConfigError) as error:
        source.open()
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("as_text", [False, True])
def test_user_and_password_pass_through(endpoint, opened, tmp_path, as_text):
    """Zenoh's own authentication is set by `config`: without the password there is no connection."""
    users = tmp_path / "users.txt"
    users.write_text("me:hunter2\n")
    login = {"user": "me", "password": "hunter2", "dictionary_file": str(users)}
    text = f"{{transport: {{auth: {{usrpwd: {msgspec.json.encode(login).decode()}}}}}, /* json5 */}}"
    config = text if as_text else {"transport/auth/usrpwd": login}
    opened(ZenohSource(key="a", listen=[endpoint], config=config))
    opened(ZenohStore(key="a", connect=[endpoint], config=config, wait_for_subscribers=1)).write([Record(b"x")])
    with pytest.raises(SourceError, match="no answer"):
        ZenohSource(key="a", connect=[endpoint], timeout_s=0.5).open()


@given(st.binary(max_size=60))
def test_bytes_from_the_wire_never_raise(data):
    """Any attachment or message is read or is None."""
    assert wire.read_attachment(data) is None or len(data) == 28
    for kind in (wire.Mark, wire.Receipt):
        message = wire.read_message(data, kind)
        assert message is None or isinstance(message, kind)
    wire.read_card(f"{wire.PREFIX}/source/x/{data.hex()}", wire.SourceCard)
    wire.read_card(data.decode("latin-1"), wire.PublisherCard)


@given(st.integers(1, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_an_attachment_reads_as_it_was_written(number, key_number):
    """An attachment is read back unchanged, and bytes of another length are none."""
    sender = wire.new_id()
    data = wire.attachment(sender, number, key_number)
    assert wire.read_attachment(data) == (sender, number, key_number)
    assert wire.read_attachment(data + b"\0") is None
