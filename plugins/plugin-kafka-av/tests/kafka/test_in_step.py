"""Partitions are read in step by the timestamps of their messages, whatever their sizes."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from confluent_kafka import Producer

import penstock as ps
from penstock.builtin.gather import Align
from penstock_kafka_av.kafka import in_step
from penstock_kafka_av.kafka.source import KafkaSource

BEGAN_MS = 1_700_000_000_000


@pytest.fixture
def source_of(broker):
    """Return a function that opens sources in step, which are closed after the test."""
    opened = []

    def made(**settings):
        source = KafkaSource(
            bootstrap_servers=broker.address, start="beginning", timeout_s=30.0, order="time", refresh_s=0.5, **settings
        )
        source.open()
        opened.append(source)
        return source

    yield made
    for source in opened:
        source.close()


@pytest.fixture
def patient(monkeypatch):
    """Wait for a lagging partition as long as a busy machine may take to fetch; half a second is for users."""
    monkeypatch.setattr(in_step, "_PATIENCE_S", 60.0)


def fill(broker, topic, *, count, size, period_ms, began_ms=BEGAN_MS):
    """Produce the messages of a camera."""
    producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 50})
    for number in range(count):
        producer.produce(topic, bytes(size), timestamp=began_ms + number * period_ms)
        producer.poll(0)
    producer.flush(30)


@pytest.mark.parametrize("group", [True, False])
@pytest.mark.usefixtures("patient")
def test_cameras_that_are_behind_are_read_in_step(broker, source_of, read, group):
    """Messages of cameras with different sizes and rates are returned in time order, all of them."""
    sizes = {1000: 40, 20_000: 40, 80_000: 40, 300: 100}
    topics = {}
    for size, period_ms in sizes.items():
        topic = broker.topic()
        topics[topic] = 4000 * 40 // period_ms // 10
        fill(broker, topic, count=topics[topic], size=size, period_ms=period_ms)
    source = source_of(topics=list(topics), until_end=True, group=topic if group else None)
    records = read(source)
    assert Counter(record.channel for record in records) == topics
    times = [record.time_ns for record in records]
    assert times == sorted(times)
    for topic in topics:
        seqs = [record.seq for record in records if record.channel == topic]
        assert seqs == list(range(len(seqs)))


@pytest.mark.usefixtures("patient")
def test_what_is_ahead_waits_at_the_broker(broker, source_of, read, monkeypatch):
    """A camera with large messages an hour ahead is paused until the other catches up; each message is read once."""
    monkeypatch.setattr(in_step, "ALL_BYTES", 2 << 20)
    large, small = broker.topic(), broker.topic()
    fill(broker, large, count=200, size=50_000, period_ms=40, began_ms=BEGAN_MS + 3_600_000)
    fill(broker, small, count=3000, size=10_000, period_ms=40)
    source = source_of(topics=[large, small])
    first = read(source, 2900)
    assert {record.channel for record in first} == {small}
    rest = read(source, 300)
    assert [record.seq for record in rest if record.channel == large] == list(range(200))
    assert [record.seq for record in first + rest if record.channel == small] == list(range(3000))


def test_what_is_live_waits_for_nobody(broker, source_of, read):
    """A live camera is read without delay beside one that lags by hours."""
    old, live = broker.topic(), broker.topic()
    fill(broker, old, count=5000, size=5000, period_ms=40)
    source = source_of(topics=[old, live])
    assert read(source, 50)
    broker.produce(live, [b"now"])
    records, until = [], time.monotonic() + 30
    while not any(record.channel == live for record in records):
        records += source.read(50, 0.2)
        assert time.monotonic() < until
    assert source.lag() > 0


def test_a_partition_that_ends_with_a_transaction_is_not_waited_for(broker, source_of, read):
    """A transaction marker is not waited for as a message: the other partitions continue."""
    marked, other = broker.topic(), broker.topic()
    producer = Producer({"bootstrap.servers": broker.address, "transactional.id": marked})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(marked, b"first", timestamp=BEGAN_MS)
    producer.commit_transaction(30)
    fill(broker, other, count=1000, size=5000, period_ms=40)
    assert len(read(source_of(topics=[marked, other]), 1001)) == 1001


@pytest.mark.usefixtures("patient")
def test_d3_a_run_that_aligns_holds_few_frames(broker):
    """Cameras that catch up reach `align` within a few records of each other, although one sends far fewer bytes."""
    topics = {broker.topic(): 200, broker.topic(): 20_000, broker.topic(): 60_000}
    for topic, size in topics.items():
        fill(broker, topic, count=300, size=size, period_ms=40)
    most = 0

    class Watched(Align):
        def __call__(self, record):
            nonlocal most
            given = super().__call__(record)
            most = max(most, len(list(self.held())))
            return given

    source = ps.source(
        "kafka", bootstrap_servers=broker.address, topics=list(topics), start="beginning", until_end=True, order="time"
    )
    report = ps.Pipeline(
        source >> ps.processor(Watched(channels=tuple(topics), tolerance_s=0.01)) >> ps.store("null")
    ).run()
    assert report.stored == 300
    assert most < 100


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_partition_that_moves_while_it_is_held_back(broker, source_of, monkeypatch, protocol):
    """A paused partition that moves to another member, or is assigned again, is read on: nothing is missing."""
    monkeypatch.setattr(in_step, "ALL_BYTES", 2 << 20)
    topics = [broker.topic() for _ in range(4)]
    for index, topic in enumerate(topics):  # the later ones are hours ahead
        fill(broker, topic, count=150, size=30_000, period_ms=40, began_ms=BEGAN_MS + index * 3_600_000)
    settings = {"topics": topics, "group": topics[0], "options": {"group.protocol": protocol}}
    if protocol == "classic":
        settings["options"] |= {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}
    one = source_of(**settings)
    found = {(record.channel, record.seq) for _ in range(20) for record in one.read(5, 0.2)}
    other = source_of(**settings)
    wanted = {(topic, number) for topic in topics for number in range(150)}
    until = time.monotonic() + 60
    while len(one.position()) > 3 or not other.position():
        found |= {(record.channel, record.seq) for source in (one, other) for record in source.read(5, 0.1)}
        assert time.monotonic() < until
    other.close()
    while found != wanted:
        found |= {(record.channel, record.seq) for record in one.read(50, 0.2)}
        assert time.monotonic() < until, len(wanted - found)
