"""The kafka store against a real broker: D4 of the comux tests, and transactions."""

from __future__ import annotations

import json

import numpy as np
import pytest

import penstock as ps
from penstock.errors import ConfigError, StoreError
from penstock.record import Record
from penstock_kafka_av import KafkaSource, KafkaStore


@pytest.fixture
def write(broker):
    """Write records with a store of these settings."""

    def records_to(records, **settings):
        store = KafkaStore(bootstrap_servers=broker.address, **settings)
        store.open()
        try:
            store.write(records)
            store.sync()
        finally:
            store.close()

    return records_to


@pytest.fixture
def all_of(broker, read):
    """All messages of a topic."""

    def messages(topic):
        source = KafkaSource(bootstrap_servers=broker.address, topics=[topic], until_end=True)
        source.open()
        try:
            return read(source)
        finally:
            source.close()

    return messages


def test_d4_the_packet_again_with_results_as_headers(broker, write, all_of):
    """The original packet is produced again on stream_<camera>, with the same partition, key and headers."""
    raw = broker.topic(partitions=3)
    stream = broker.topic(f"stream_{raw}", partitions=3)
    broker.produce(raw, [b"\0packet"], key=b"\xffkey", partition=2, headers={"site": b"hall", "count": b"?"})
    [packet] = all_of(raw)
    frame = Record(np.zeros((2, 2)), channel=packet.channel, seq=packet.seq, parent=packet)
    results = {"text": "Å", "boxes": [[1, 2], [3, 4]], "count": 2, "raw": b"\xfe", "map": {"a": None}}
    write([frame.replace(data={**results, "score": np.float32(0.5), "array": np.arange(2)})], payload="parent")
    [again] = all_of(stream)
    assert again.data == b"\0packet"
    assert (again.metadata["partition"], again.metadata["key"]) == (2, b"\xffkey")
    headers = again.metadata["headers"]
    assert (headers["site"], headers["text"], headers["raw"]) == ("hall", "Å", b"\xfe")
    assert [json.loads(headers[name]) for name in ("boxes", "count", "map", "score", "array")] == [
        [[1, 2], [3, 4]], 2, {"a": None}, 0.5, [0, 1],
    ]  # fmt: skip


def test_templates(broker, write, all_of):
    """Templates render topic, key, partition and headers; comux's :cam_id is the channel."""
    mark = broker.topic()
    broker.topic(f"{mark}_left", partitions=2)
    record = Record({"n": 1}, channel="left", seq=5, metadata={"site": "hall"})
    write([record], topic=f"{mark}_:cam_id", key="{{ site }}-{{ seq }}", partition="{{ seq % 2 }}",
          headers={"where": "{{ site }}"}, payload="json")  # fmt: skip
    [message] = all_of(f"{mark}_left")
    assert json.loads(message.data) == {"n": 1}
    assert message.metadata["key"] == "hall-5"
    assert message.metadata["partition"] == 1
    assert message.metadata["headers"] == {"where": "hall"}


def test_what_cannot_be_produced_costs_only_itself(broker, write, all_of):
    """A record with a missing name, too many bytes, or an unknown topic or partition fails alone."""
    topic = broker.topic("only-good")
    good = Record(b"good", channel="only-good", metadata={"to": 0})
    bad = [
        Record(b"x", channel="only-good"),
        Record(b"x" * 2_000_000, channel="only-good", metadata={"to": 0}),
        Record(b"x", channel="only-good", metadata={"to": 7}),
        Record(b"x", channel="not-there", metadata={"to": 0}),
        Record(object(), channel="only-good", metadata={"to": 0}),
    ]
    with pytest.raises(StoreError) as refused:
        write([good, *bad, good.replace(seq=1)], topic="{{ channel }}", partition="{{ to }}", payload="data")
    failed = {id(record): error for record, error in refused.value.failed}
    assert set(failed) == set(map(id, bad))
    assert not any(error.retryable for error in failed.values())
    assert "message.max.bytes" in str(failed[id(bad[1])])
    assert [message.data for message in all_of(topic)] == [b"good", b"good"]


def test_a_record_of_20_mb(broker, write, all_of):
    """A record of 20 MB is written if broker and client allow it."""
    topic = broker.topic(max_message_bytes=25_000_000)
    data = bytes(20_000_000)
    write([Record(data, channel="big")], topic=topic, payload="data", options={"message.max.bytes": 25_000_000})
    assert [message.data == data for message in all_of(topic)] == [True]


def test_exactly_once_in_one_process(broker, all_of):
    """A transactional store keeps positions with records: a second run of a source without a group continues."""
    raw, out = broker.topic(partitions=2), broker.topic()
    for partition in range(2):
        broker.produce(raw, [b"%d" % number for number in range(50)], partition=partition)

    def run():
        source = ps.source("kafka", bootstrap_servers=broker.address, topics=[raw], until_end=True)
        store = ps.store(
            "kafka", bootstrap_servers=broker.address, topic=out, payload="data", transactional=f"tx-{raw}"
        )
        return ps.Pipeline(source >> store).run()

    assert run().stored == 100
    broker.produce(raw, [b"last"], partition=1)
    assert run().stored == 1
    assert len(all_of(out)) == 101


def test_an_older_producer_is_fenced_off(broker, write, all_of):
    """Of two processes with one transactional name, the older one cannot write any more, and reports the reason."""
    topic = broker.topic()
    older = KafkaStore(bootstrap_servers=broker.address, topic=topic, payload="data", transactional="fence")
    older.open()
    older.write([Record(b"zombie", channel="c")])
    write([Record(b"new", channel="c")], topic=topic, payload="data", transactional="fence")
    with pytest.raises(StoreError, match="fence") as refused:
        older.sync()
    assert not refused.value.retryable
    with pytest.raises(StoreError):
        older.close()
    assert [message.data for message in all_of(topic)] == [b"new"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"topic": "{{ channel"}, "topic"),
        ({"key": "{seq:04d}"}, "key"),
        ({"payload": "pickle"}, "payload"),
        ({"headers": {"a": "{{"}}, "headers"),
        ({"options": {"transactional.id": "x"}}, "transactional"),
    ],
)
def test_settings_that_are_wrong(settings, words):
    """A wrong setting is rejected before connecting."""
    with pytest.raises((ConfigError, ValueError), match=words):
        KafkaStore(bootstrap_servers="127.0.0.1:9", **settings)
