"""Links over Kafka against a real broker: both pipelines of a link run and fail independently."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import penstock as ps
from penstock.errors import CodecError, ConfigError
from penstock.record import Record
from penstock.testing.equality import assert_same_record
from penstock_kafka_av import KafkaLinkSource, KafkaLinkStore, KafkaSource

BEFORE = """
import sys, json
import penstock as ps
kafka, raw, link = json.loads(sys.argv[1])
source = ps.source("kafka", topics=[raw], group="before-" + raw, refresh_s=1.0, **kafka)
print("begun", flush=True)
ps.Pipeline(source >> ps.store("kafka-link", topic=link, **kafka), checkpoint_every_s=1.0).run(check=True)
"""

BEHIND = """
import sys, json
import penstock as ps
kafka, link, out = json.loads(sys.argv[1])
source = ps.source("kafka-link", topic=link, refresh_s=1.0, **kafka)
print("begun", flush=True)
store = ps.store("kafka", topic=out, payload="data", partition="{{ partition }}", **kafka)
ps.Pipeline(source >> store, checkpoint_every_s=0.3).run(check=True)
"""


@pytest.fixture
def link(broker):
    """Create ends of a link, which are closed after the test."""
    made = []
    name = f"link-{broker.topic()}"

    def end(kind, **settings):
        made.append(kind(bootstrap_servers=broker.address, topic=name, **settings))
        made[-1].open()
        return made[-1]

    end.name = name
    yield end
    for each in made:
        each.close()


def record(number, channel="c", data=None, time_ns=None):
    return Record({"n": number} if data is None else data, channel=channel, seq=number,
                  time_ns=number + 1 if time_ns is None else time_ns)  # fmt: skip


def program(text, *arguments):
    process = subprocess.Popen([sys.executable, "-c", text, json.dumps(arguments)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout.readline() == "begun\n"
    return process


def end(process, *, kill=False):
    process.kill() if kill else process.terminate()
    process.wait(60)
    process.stdout.close()
    return process.returncode


def test_records_of_every_kind_cross(link, read):
    """Arrays, mappings, bytes, coordinates, metadata and times arrive unchanged; channels keep their order."""
    store = link(KafkaLinkStore, partitions=4)
    sent = [
        Record(np.arange(6, dtype=">u2").reshape(2, 3), channel="", seq=3, time_ns=7, metadata={"a": [1, b"x"]}),
        Record(b"bytes", channel="a/b c", seq=2**62, coords=ps.DataCoordinates(x=1, t=2)),
        Record({"k": {"deep": None}}, channel="å", seq=0, time_ns=-5),
        Record("text", channel="", seq=4),
        *[record(number, channel=f"{number % 5}") for number in range(200)],
        *[record(number, channel="") for number in range(5, 60)],
    ]
    store.write(sent)
    store.sync()
    store.close()
    found = read(link(KafkaLinkSource, until_end=True))
    assert len(found) == len(sent)
    for channel in {each.channel for each in sent}:
        wanted = [each for each in sent if each.channel == channel]
        got = [each for each in found if each.channel == channel]
        for one, other in zip(wanted, got, strict=True):
            assert_same_record(one, other)


def test_a_run_that_is_killed_is_gone_on_with(broker, link, read):
    """After repeated kills of both sides, each record of the source topic arrives, in order.

    What the side before it wrote twice is there once; the side behind it has a group, and stores without keys.
    """
    raw, out = broker.topic(partitions=2), broker.topic(partitions=2)
    kafka = {"bootstrap_servers": broker.address, "options": {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}}
    before, behind = program(BEFORE, kafka, raw, link.name), program(BEHIND, kafka, link.name, out)
    made, step = 0, 150
    try:
        for kill in range(5):
            for number in range(made, made + step):
                broker.produce(raw, [b"%d" % number], partition=number % 2)
            made += step
            wait_for(broker, read, link.name, made - step // 2)
            if kill == 4:
                break
            if kill % 2:
                end(behind, kill=True)
                behind = program(BEHIND, kafka, link.name, out)
            else:
                end(before, kill=True)
                before = program(BEFORE, kafka, raw, link.name)
        wait_for(broker, read, link.name, made)
        assert end(before) in (0, 143)
        once = read(link(KafkaLinkSource, group="once", until_end=True))
        wait_for(broker, read, out, made, different=True)
    finally:
        end(before)
        end(behind)
    for partition in range(2):
        wanted = [b"%d" % number for number in range(made) if number % 2 == partition]
        assert [each.data for each in once if each.metadata["partition"] == partition] == wanted
    stored = messages(broker, read, out)
    assert {each.data for each in stored} == {b"%d" % number for number in range(made)}


def messages(broker, read, topic):
    source = KafkaSource(bootstrap_servers=broker.address, topics=[topic], until_end=True)
    source.open()
    try:
        return read(source)
    finally:
        source.close()


def wait_for(broker, read, topic, count, *, different=False):
    ends = time.monotonic() + 60
    while True:
        found = messages(broker, read, topic)
        if len({each.data for each in found} if different else found) >= count:
            return
        assert time.monotonic() < ends, f"{len(found)} of {count} on {topic}"


def broken_off(store):
    """End a store as `kill -9` does: without end marks."""
    store._unsynced = True
    store.close()


def test_what_was_written_twice_is_given_once(link, read):
    """Records that a killed store writes again are removed and remarked, also by a source that begins later."""
    first = link(KafkaLinkStore, partitions=1)
    first.write([record(number) for number in range(10)])
    broken_off(first)
    source = link(KafkaLinkSource)
    assert [each.seq for each in read(source, 10)] == list(range(10))
    source.commit(source.position())
    source.close()
    second = link(KafkaLinkStore, partitions=1)
    second.write([record(number) for number in range(4, 15)])
    source = link(KafkaLinkSource)
    assert [each.seq for each in read(source, 5)] == list(range(10, 15))
    assert "6 duplicates" in source.remarks()[0].text


@pytest.mark.parametrize("replays", [False, True])
def test_what_counts_anew_is_not_taken_for_old(link, read, replays):
    """Equal numbers with other times are other records (a restarted camera), unless the store sets replays."""
    for time_ns in (100, 200):
        store = link(KafkaLinkStore, partitions=1, replays=replays)
        store.write([record(number, time_ns=time_ns) for number in range(5)])
        broken_off(store)
    store = link(KafkaLinkStore, partitions=1)
    store.sync()
    store.close()
    found = read(link(KafkaLinkSource, until_end=True))
    assert [each.time_ns for each in found] == [100] * 5 + ([] if replays else [200] * 5)


def test_a_run_that_ended_is_done_again(link, read):
    """A run that ended in order, and is repeated by its user, is received twice."""
    for _ in range(2):
        store = link(KafkaLinkStore, partitions=1)
        store.write([record(number) for number in range(5)])
        store.sync()
        store.close()
    assert len(read(link(KafkaLinkSource, until_end=True))) == 10


def test_the_end_of_a_run(link, read):
    """A source with until_end ends when the runs of all stores have, and waits for an interrupted one."""
    one, other = (link(KafkaLinkStore, producer=name, partitions=3) for name in ("one", "other"))
    source = link(KafkaLinkSource, until_end=True, publishers=2)
    one.write([record(0, channel="one")])
    one.sync()
    one.close()
    other.write([record(0, channel="other")])
    broken_off(other)
    assert len(read(source, 2)) == 2
    for _ in range(5):
        assert source.read(10, 0.1) == []
    again = link(KafkaLinkStore, producer="other", partitions=3)
    again.write([record(0, channel="other"), record(1, channel="other")])
    again.sync()
    again.close()
    assert [each.seq for each in read(source)] == [1]
    source.commit(source.position())
    source.close()
    assert read(link(KafkaLinkSource, until_end=True, publishers=2)) == []


def test_marks_do_not_shorten_the_wait(link):
    """A read that receives only marks of a store goes on waiting, so it returns the record written after them."""
    source = link(KafkaLinkSource, refresh_s=0.2)
    link(KafkaLinkStore, partitions=1).close()  # writes the mark of its end
    store = link(KafkaLinkStore)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(source.read, 10, 60.0)
        while not source.position().get(f"{link.name}/0") and not reading.done():
            time.sleep(0.01)
        store.write([record(0)])
        store.sync()
        assert [each.seq for each in reading.result()] == [0]


def test_what_is_no_record_of_a_link(broker, link, read):
    """Foreign and damaged messages are rejected with a reason; their neighbours arrive."""
    store = link(KafkaLinkStore, partitions=1)
    store.write([record(0)])
    broker.produce(link.name, [b"foreign", None], partition=0)
    broker.produce(link.name, [b"damaged"], partition=0, headers={"penstock-link": b"\1"})
    store.write([record(1)])
    source = link(KafkaLinkSource)
    assert [each.seq for each in read(source, 2)] == [0, 1]
    refused = source.take_refused()
    assert [each.data for each, _ in refused] == [b"foreign", b"", b"damaged"]
    assert all(isinstance(error, CodecError) for _, error in refused)


def test_pipelines_joined_by_a_link(broker, link):
    """In two runs joined by a link, a source with until_end ends after the sending run; both reports add up."""
    kafka = {"bootstrap_servers": broker.address, "topic": link.name}
    memory = ps.store("memory")
    behind = ps.source("kafka-link", until_end=True, refresh_s=0.3, **kafka) >> memory
    with ps.Pipeline(behind).start() as run:
        frames = ps.source([np.full((4, 4), number) for number in range(50)], channel="camera")
        assert ps.Pipeline(frames >> ps.store("kafka-link", partitions=2, **kafka)).run().stored == 50
        report = run.wait(60)
    assert report is not None
    assert report.ok, report
    assert report.stored == 50


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"topic": "a b"}, "topic"), ({"producer": ""}, "producer"), ({"partitions": 0}, "partitions")],
)
def test_settings_that_are_wrong(settings, words):
    """A wrong setting is rejected before connecting."""
    with pytest.raises((ConfigError, ValueError), match=words):
        KafkaLinkStore(bootstrap_servers="127.0.0.1:9", **{"topic": "t", **settings})
