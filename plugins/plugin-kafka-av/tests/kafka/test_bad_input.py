"""Bad input on topics of a real broker has its documented outcome, and neighbours are stored."""

from __future__ import annotations

import re
import threading
import time
import uuid

import pytest
from confluent_kafka import Consumer, TopicPartition

import penstock as ps
from penstock.errors import ConfigError
from penstock_kafka_av import KafkaSource, KafkaStore
from penstock_kafka_av.test_picture import TestPictureSource


@pytest.fixture(scope="module")
def packets(drain):
    """Packets of the test picture, a keyframe every ten."""
    return [each.data for each in drain(TestPictureSource(frames=30, width=64, height=48, rate=10, bframes=0))]


@pytest.fixture
def decoded(broker, packets):
    """Produce messages of a camera, and of an intact one; return the report, and the frames of each."""

    def run(messages, **decoder):
        mark = f"b{uuid.uuid4().hex[:6]}"
        broker.produce(broker.topic(f"{mark}_sound"), packets)
        broker.produce(broker.topic(f"{mark}_odd"), messages)
        frames = {"sound": [], "odd": []}

        def keep(record):
            frames[record.channel].append(record)
            return record

        source = ps.source("kafka", bootstrap_servers=broker.address, schema=f"{mark}_:cam_id", until_end=True)
        flow = source >> ps.decoder("av", name="decode", **decoder) >> ps.processor(keep) >> ps.store("null")
        report = ps.Pipeline(flow).run()
        assert [each.metadata["offset"] for each in frames["sound"]] == list(range(30))
        return report, frames["odd"]

    return run


def test_a_stream_that_begins_in_the_middle_of_a_group_of_pictures(decoded, packets):
    """No frame before the first keyframe is returned; skipped packets are counted, and all later frames come."""
    report, frames = decoded(packets[4:])
    assert [each.metadata["offset"] for each in frames] == list(range(6, 26))
    assert report.account.node("decode").discarded == 6


def test_half_packets(decoded, packets):
    """A truncated packet costs the frames up to the next keyframe, and no more."""
    report, frames = decoded([*packets[:3], packets[3][: len(packets[3]) // 2], *packets[4:]])
    assert {each.metadata["offset"] for each in frames} >= {0, 1, 2, *range(10, 30)}
    assert report.received == 60


def test_another_codec_than_was_said(decoded):
    """Packets of another codec are dead-lettered or discarded; none becomes a frame, and the run ends."""
    noise = [b"\xff\xd8\xff\xe0" + bytes(200) + b"\xff\xd9"] * 10  # JPEG markers where H.264 was said
    report, frames = decoded(noise, codec="h264")
    assert frames == []
    odd = report.dead_lettered + report.account.node("decode").discarded
    assert odd == 10


def test_headers_that_are_not_json(broker, read):
    """Headers that are neither JSON nor text pass through source and store unchanged."""
    raw, out = broker.topic(), broker.topic()
    headers = {"boxes": b"{not json", "bytes": b"\xff\xfe", "empty": b""}
    broker.produce(raw, [b"packet"], key="k", headers=headers)
    kafka = {"bootstrap_servers": broker.address}
    flow = ps.source("kafka", topics=[raw], until_end=True, **kafka) >> ps.store(
        "kafka", topic=out, payload="parent", **kafka
    )
    assert ps.Pipeline(flow).run().ok
    source = KafkaSource(topics=[out], until_end=True, **kafka)
    source.open()
    try:
        [record] = read(source)
    finally:
        source.close()
    assert record.metadata["headers"] == {"boxes": "{not json", "bytes": b"\xff\xfe", "empty": ""}


def test_an_offset_beyond_the_end(broker, read):
    """If a group committed an offset that the topic does not have, the topic is read from its beginning."""
    topic = broker.topic()
    broker.produce(topic, [b"1", b"2"])
    client = Consumer({"bootstrap.servers": broker.address, "group.id": f"g-{topic}"})
    client.commit(offsets=[TopicPartition(topic, 0, 1000)], asynchronous=False)
    client.close()
    source = KafkaSource(bootstrap_servers=broker.address, topics=[topic], group=f"g-{topic}")
    source.open()
    try:
        assert [each.data for each in read(source, 2)] == [b"1", b"2"]
    finally:
        source.close()


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_storm_of_rebalances(broker, protocol):
    """Repeated rebalances take nothing from a run: each record is stored, in order."""
    topic = broker.topic(partitions=4)
    kafka = {
        "bootstrap_servers": broker.address, "topics": [topic], "group": f"g-{topic}",
        "options": {"group.protocol": protocol},
    }  # fmt: skip
    stored, lock = {}, threading.Lock()

    def keep(record):
        with lock:
            stored.setdefault(record.metadata["partition"], []).append(int(record.data))
        return record

    made = 0
    with ps.Pipeline(
        ps.source("kafka", **kafka) >> ps.processor(keep) >> ps.store("null"), checkpoint_every_s=0.1
    ).start():
        ends = time.monotonic() + 60
        for _ in range(6):
            other = KafkaSource(**kafka)
            other.open()
            for number in range(made, made + 40):
                broker.produce(topic, [b"%d" % number], partition=number % 4)
            made += 40
            while not other.position():  # it has taken partitions, reads none of them, and commits nothing
                time.sleep(0.05)  # its thread polls
                assert time.monotonic() < ends
            other.close()
        while sum(len(set(each)) for each in stored.values()) < made:
            assert time.monotonic() < ends, {key: len(set(each)) for key, each in stored.items()}
            time.sleep(0.05)
    for partition, numbers in stored.items():
        firsts = list(dict.fromkeys(numbers))
        assert firsts == list(range(partition, made, 4)), "none is missing, and new ones come in order"


def test_header_names_that_are_not_text(broker, read, services):
    """Headers whose names are not UTF-8 are left out and counted; the message and its other headers pass."""
    topic, out, raw = broker.topic(), broker.topic(), services("raw_producer")
    for number in range(20):  # Python's optimised calls of a method do not notice the client's error
        raw.produce(broker.address, topic, b"%d" % number, [(b"camera", b"front"), (b"\xff\xfe", b"1"), (b"", b"2")])
    broker.produce(topic, [b"sound"], headers=[("a", b"1"), ("b", b"2"), ("a", None)])
    kafka = {"bootstrap_servers": broker.address}
    source = ps.source(
        "kafka", topics=[topic], channel="{{ headers.camera | default('none') }}", until_end=True, **kafka
    )
    report = ps.Pipeline(source >> ps.store("kafka", topic=out, payload="parent", **kafka)).run()
    assert report.ok, report
    copied = KafkaSource(topics=[out], until_end=True, **kafka)
    copied.open()
    *odd, sound = read(copied)
    copied.close()
    assert [each.data for each in odd] == [b"%d" % number for number in range(20)]
    assert all(each.metadata["headers"] == {"camera": "front", "": "2"} for each in odd)
    assert sound.metadata["headers"] == {"a": ["1", None], "b": "2"}
    original = KafkaSource(topics=[topic], until_end=True, **kafka)
    original.open()
    assert [each.metadata.get("unreadable_headers", 0) for each in read(original)] == [1] * 20 + [0]
    original.close()


def test_a_link_with_header_names_that_are_not_text(broker, read, services):
    """A message with such a header on the topic of a link is dead-lettered; the records of the link arrive."""
    topic = broker.topic()
    services("raw_producer").produce(broker.address, topic, b"odd", [(b"\xff", b"1")])
    kafka = {"bootstrap_servers": broker.address, "topic": topic}
    ps.Pipeline(ps.source([1, 2]) >> ps.store("kafka-link", **kafka)).run(check=True)
    stored = ps.store("memory")
    report = ps.Pipeline(ps.source("kafka-link", until_end=True, **kafka) >> stored).run()
    assert (report.stored, report.dead_lettered) == (2, 1)


BARE = {"payload": "parent"}
SMALL = {"queue.buffering.max.kbytes": 1000, "message.max.bytes": 5_000_000}


@pytest.mark.parametrize(
    ("settings", "odd", "words"),
    [
        (BARE, {"data": {"\ud800": 1}, "parent": ps.Record(b"")}, r"'\\ud800' cannot be the name of a header"),
        (BARE, {"data": {"a\0b": 1}, "parent": ps.Record(b"")}, r"'a\\x00b' cannot be the name of a header"),
        (BARE, {"metadata": {"headers": {"\ud800": "x"}}}, "cannot be the name of a header"),
        (BARE, {"metadata": {"partition": 2**40}}, "refuses .*'topic': 't.*', 'partition': 1099511627776"),
        (BARE, {"metadata": {"partition": 99}}, "topic 't.*', partition 99: .*; choose one"),
        (BARE, {"metadata": {"partition": -3}}, "topic 't.*', partition -3: .*; choose one"),
        ({"payload": "data"}, {"time_ns": 2**62}, "topic 't.*', partition 0: INVALID_TIMESTAMP.*time_ns"),
        ({"payload": "data", "topic": "{{ topic }}"}, {"metadata": {"topic": "a b"}}, "'a b': .*use up to 249"),
        (
            {"payload": "data", "options": SMALL},
            {"data": bytes(3_000_000)},
            "3000000 bytes .*queue.buffering.max.kbytes",
        ),
    ],
)
def test_records_that_no_message_can_hold(broker, settings, odd, words):
    """Such a record is dead-lettered, with topic, value and remedy in the error; its neighbours are written."""
    topic = broker.topic()
    metadata = {"topic": topic, **odd.get("metadata", {})}
    records = [
        ps.Record(b"a", metadata={"topic": topic}),
        ps.Record(**{"data": b"", **odd, "metadata": metadata}, seq=1),
    ]
    records.append(ps.Record(b"b", seq=2, metadata={"topic": topic}))
    store = ps.store("kafka", bootstrap_servers=broker.address, **{"topic": topic, **settings})
    report = ps.Pipeline(ps.source(records) >> store).run()
    assert (report.stored, report.dead_lettered) == (2, 1)
    assert re.search(words, str(report)), report


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"topic": "a b"}, "topic='a b': must be a topic name"),
        ({"topic": "x" * 250}, "must be a topic name"),
        ({"topic": "t", "partition": -1}, "partition=-1: must be a number from 0"),
        ({"topic": "t", "partition": 2**31}, "partition=2147483648"),
        ({"topic": "t", "headers": {"a\0b": "x"}}, "cannot be the name of a header"),
        ({"topic": "t", "headers": {"\ud800": "x"}}, "cannot be the name of a header"),
    ],
)
def test_settings_that_no_message_can_have(settings, words):
    """A store with such a setting is refused when it is made, with the value."""
    with pytest.raises(ConfigError, match=words):
        KafkaStore(bootstrap_servers="localhost:1", **settings)


@pytest.mark.parametrize("transactional", [False, True])
@pytest.mark.parametrize("odd", [{"data": bytes(150_000)}, {"data": b"", "time_ns": 2**62}])
def test_records_whose_batch_the_broker_refuses(broker, read, transactional, odd):
    """Records that were in a batch with an invalid one, or in one that is too large for the topic, are written."""
    topic = broker.topic(max_message_bytes=100_000)
    records = [ps.Record(bytes(10_000), seq=number) for number in range(50)]
    records.insert(25, ps.Record(**odd, seq=100))
    settings = {"bootstrap_servers": broker.address, "topic": topic}
    store = ps.store("kafka", payload="data", transactional=topic if transactional else None, **settings)
    report = ps.Pipeline(ps.source(records) >> store).run()
    assert (report.stored, report.dead_lettered) == (50, 1), report
    source = KafkaSource(bootstrap_servers=broker.address, topics=[topic], until_end=True)
    source.open()
    assert [len(each.data) for each in read(source)] == [10_000] * 50
    source.close()
