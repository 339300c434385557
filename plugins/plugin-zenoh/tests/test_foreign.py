"""Programs that are not penstock: payloads decoded by their encoding, payloads for them, and roles of sessions."""

from __future__ import annotations

import json
import time

import cbor2
import pytest
import zenoh

import penstock as ps
from penstock.errors import ConfigError, StoreError
from penstock.record import Record
from penstock_zenoh.session import Network
from penstock_zenoh.source import ZenohSource
from penstock_zenoh.store import ZenohStore


@pytest.fixture
def network(endpoint):
    """A plain zenoh session that listens."""
    session = Network(listen=(endpoint,)).open()
    yield session
    session.close()


def read(source, count):
    records = []
    deadline = time.monotonic() + 20
    while len(records) < count and time.monotonic() < deadline:
        records += source.read(count, 1)
    assert len(records) == count
    return records


def publish(network, key, *puts):
    publisher = network.declare_publisher(key, congestion_control=zenoh.CongestionControl.BLOCK)
    while not publisher.matching_status.matching:
        pass
    for payload, options in puts:
        publisher.put(payload, **options)


def test_payloads_are_read_by_their_encoding(network, endpoint, opened):
    """JSON, CBOR and text become values, anything else stays bytes; attachments are metadata."""
    source = opened(ZenohSource(key="lab/**", raw=True, by_encoding=True, connect=[endpoint]))
    publish(
        network,
        "lab/a",
        (b'{"x": 1}', {"encoding": zenoh.Encoding.APPLICATION_JSON, "attachment": b"note"}),
        (cbor2.dumps([1, b"x"]), {"encoding": zenoh.Encoding.APPLICATION_CBOR}),
        ("é".encode(), {"encoding": zenoh.Encoding.TEXT_PLAIN}),
        (b"\xff", {}),
    )
    records = read(source, 4)
    assert [record.data for record in records] == [{"x": 1}, [1, b"x"], "é", b"\xff"]
    assert records[0].metadata["attachment"] == b"note"
    assert records[0].metadata["encoding"] == "application/json"
    assert [record.seq for record in records] == [0, 1, 2, 3]


def test_a_payload_that_is_not_what_it_says_is_dead_lettered(network, endpoint, tmp_path):
    """Bytes that are not JSON are dead-lettered unchanged; the next payload is stored."""
    source = ZenohSource(key="lab/**", raw=True, by_encoding=True, connect=[endpoint])
    pipeline = ps.Pipeline(
        ps.source(source, name="lab") >> ps.store("null", name="kept"), dead_letters=str(tmp_path / "dead")
    )
    with pipeline.start() as run:
        json_ = {"encoding": zenoh.Encoding.APPLICATION_JSON}
        publish(network, "lab/a", (b"{", json_), (b"{}", json_))
        while run.stats().node("kept").stored < 1:
            run.wait(0.02)
    assert run.report.account.node("lab").dead_lettered == 1
    assert run.report.balanced


@pytest.mark.parametrize(
    ("form", "data", "payload", "encoding"),
    [
        ("json", {"µ": 1}, '{"µ": 1}'.encode(), "application/json"),
        ("cbor", [1, "x"], cbor2.dumps([1, "x"]), "application/cbor"),
        ("bytes", b"raw", b"raw", "application/octet-stream"),
    ],
)
def test_others_read_what_a_store_publishes(form, data, payload, encoding, network, endpoint, opened):
    """With `encoding` a store publishes the data alone, with their content type; a penstock source reads them, too."""
    got = network.declare_subscriber("lab/**", zenoh.handlers.FifoChannel(10))
    source = opened(ZenohSource(key="lab/**", connect=[endpoint], listen=["tcp/127.0.0.1:0"]))
    store = opened(ZenohStore(key="lab/a", connect=[endpoint], encoding=form, priority="data_high", express=True))
    store.write([Record(data, channel="a")])
    sample = got.handler.recv()
    assert (sample.payload.to_bytes(), str(sample.encoding)) == (payload, encoding)
    assert sample.priority == zenoh.Priority.DATA_HIGH
    assert sample.express
    assert read(source, 1)[0].data == data


def test_data_without_such_a_form_cost_their_own_record(network, endpoint, opened):
    """Data that JSON cannot encode is an error of its record; its neighbours are published."""
    store = opened(ZenohStore(key="lab/a", connect=[endpoint], encoding="json", wait_for_subscribers=0))
    with pytest.raises(StoreError, match="1 of 2 records not published") as error:
        store.write([Record(b"x"), Record([1])])
    assert not error.value.retryable


def test_history_comes_first(network, endpoint, opened):
    """The answers of a storage are returned before new messages, and none of them twice."""
    stored = network.declare_queryable(
        "lab/**",
        zenoh.handlers.Callback(
            lambda query: [query.reply(f"lab/{n}", json.dumps(n).encode()) for n in range(3)], indirect=False
        ),
    )
    source = opened(ZenohSource(key="lab/**", raw=True, history=True, connect=[endpoint], timeout_s=5))
    publish(network, "lab/now", (b"now", {}))
    records = read(source, 4)
    assert sorted(record.data for record in records[:3]) == [b"0", b"1", b"2"]
    assert records[3].data == b"now"
    stored.undeclare()


def test_a_client_and_a_router(endpoint, opened):
    """A source that is a router, and a store that is its client, exchange records."""
    source = opened(ZenohSource(key="lab/**", mode="router", listen=[endpoint], until_end=True))
    store = opened(ZenohStore(key="lab/a", mode="client", connect=[endpoint], timeout_s=20))
    store.write([Record(b"x")])
    assert read(source, 1)[0].data == b"x"


@pytest.mark.parametrize("settings", [{"mode": "boss"}, {"priority": "high"}, {"encoding": "xml"}, {"express": 1}])
def test_wrong_settings_are_named(settings):
    """An unknown mode, priority or encoding is rejected before anything opens."""
    (name,) = settings
    with pytest.raises((ConfigError, ValueError), match=name):
        ZenohStore(key="a", **settings)
