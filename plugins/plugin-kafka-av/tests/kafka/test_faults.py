"""Faults against a real broker: each has its documented outcome, and does not affect neighbours."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import uuid
import zlib

import pytest

import penstock as ps
from penstock_kafka_av import KafkaSource
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.test_picture import TestPictureSource

FULL = os.environ.get("PENSTOCK_FAULTS") == "full"
MEMBERS = 3
CAMERAS = 8
KILLS = 20 if FULL else 3
EXACT_KILLS = 10 if FULL else 2
PER_CAMERA = 400 if FULL else 120

MEMBER = """
import sys, json
import penstock as ps
settings = json.loads(sys.argv[1])
source = ps.source("kafka", name="cameras", **settings["source"])
store = ps.store("kafka", name="out", **settings["store"])
pipeline = ps.Pipeline(source >> store, checkpoint_every_s=0.1)
print("begun", flush=True)
report = pipeline.run()
print(report.ok, flush=True)
"""

VISION = """
import json, sys, zlib
import penstock as ps
settings = json.loads(sys.argv[1])
source = ps.source("kafka", name="cameras", **settings["source"])
frames = source >> ps.decoder("av", threads=1)
results = frames >> ps.processor(lambda record: record.replace(data={"sum": zlib.crc32(record.data)}))
pipeline = ps.Pipeline(results >> ps.store("kafka", **settings["store"]), checkpoint_every_s=0.1)
print("begun", flush=True)
report = pipeline.run()
print(report.ok, flush=True)
"""


def numbers(count, start=0):
    return [b"%d" % number for number in range(start, start + count)]


def everything(broker, topic, read, **settings):
    source = KafkaSource(bootstrap_servers=broker.address, topics=[topic], until_end=True, **settings)
    source.open()
    try:
        return read(source)
    finally:
        source.close()


def member(settings, program=MEMBER):
    return subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(settings)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


@contextlib.contextmanager
def members(settings, program=MEMBER):
    """Run three processes of a program until the end; yield a function that kills the oldest and starts another."""
    running = [member(settings, program) for _ in range(MEMBERS)]

    def replace_one():
        victim = running.pop(0)
        victim.kill()
        victim.wait()
        victim.stdout.close()
        running.append(member(settings, program))
        assert running[-1].stdout.readline() == "begun\n"

    try:
        for each in running:
            assert each.stdout.readline() == "begun\n"
        yield replace_one
    finally:
        for each in running:
            each.terminate()
        for each in running:
            each.wait(60)
            each.stdout.close()


def shared_cameras(broker, options, **store):
    """Return the topics of eight cameras, that of the results, and the settings of the members of one group."""
    mark, out = broker.topic(), broker.topic(partitions=CAMERAS)
    names = [broker.topic(f"{mark}_{number}") for number in range(CAMERAS)]
    settings = {
        "source": {
            "bootstrap_servers": broker.address, "schema": f"{mark}_:cam_id", "group": f"g-{mark}", "refresh_s": 1.0,
            "options": options,
        },
        "store": {"bootstrap_servers": broker.address, "topic": out, "key": "{{ channel }}",
                  "partition": "{{ channel }}", **store},
    }  # fmt: skip
    return names, out, settings


def test_tombstones_and_empty_messages(broker, read):
    """A message without a value is a record marked as a tombstone; one of 0 bytes is an empty record."""
    topic = broker.topic()
    broker.produce(topic, [None, b"", b"x"], key=b"k")
    records = everything(broker, topic, read)
    assert [record.data for record in records] == [b"", b"", b"x"]
    assert [record.metadata.get("tombstone", False) for record in records] == [True, False, False]


def test_20_mb(broker, read):
    """A message of 20 MB is read, and so are its neighbours."""
    topic = broker.topic(max_message_bytes=25_000_000)
    big = os.urandom(1000) * 20_000
    broker.produce(topic, [b"before", big, b"after"])
    assert [record.data for record in everything(broker, topic, read)] == [b"before", big, b"after"]


def test_offsets_out_of_range(broker, read):
    """Messages deleted before they were read count as lost; a committed offset beyond the end starts over."""
    topic = broker.topic()
    broker.produce(topic, numbers(50))
    group = f"g-{topic}"
    source = KafkaSource(bootstrap_servers=broker.address, topics=[topic], group=group, until_end=True)
    source.open()
    first = read(source, 10)
    source.commit({f"{topic}/0": 10})
    source.close()
    assert len(first) == 10
    broker.delete_before(topic, 30)
    source.open()
    try:
        records = read(source)
        assert [record.seq for record in records] == list(range(30, 50))
        assert records[0].discontinuity
        assert source.lost_upstream() == {topic: 20}
    finally:
        source.close()


def test_a_topic_that_is_made_again(broker, read):
    """A recreated topic is read from its first message by the running source, in a group or not.

    A neighbour is not disturbed.
    """
    for group in (None, "again"):
        mark, neighbour = broker.topic(), broker.topic()
        broker.produce(mark, numbers(5))
        source = KafkaSource(
            bootstrap_servers=broker.address, topics=[mark, neighbour], group=group and f"{group}-{mark}", refresh_s=0.2
        )
        source.open()
        try:
            assert len(read(source, 5)) == 5
            source.commit(source.position())
            broker.delete_topic(mark)
            ends = time.monotonic() + 30
            while f"{mark}/0" in source.position():
                assert source.read(1, 0.1) == []
                assert time.monotonic() < ends
            broker.topic(mark)
            broker.produce(mark, [b"new"])
            broker.produce(neighbour, [b"other"])
            assert sorted(record.data for record in read(source, 2)) == [b"new", b"other"]
        finally:
            source.close()


@pytest.mark.parametrize("protocol", [None, "consumer", "classic"])
def test_a_topic_that_is_made_again_at_once(broker, read, protocol):
    """A topic recreated between two listings, with more messages than the old one, is read from its beginning.

    Offsets of the old topic are not committed to the new one; what the old one held unread is counted as lost.
    """
    topic = broker.topic(partitions=2)
    broker.produce(topic, numbers(5), partition=0)
    group = None if protocol is None else f"again-{topic}"
    settings = {"bootstrap_servers": broker.address, "topics": [topic], "group": group, "refresh_s": 0.5}
    if protocol is not None:
        settings["options"] = {"group.protocol": protocol}
    source = KafkaSource(**settings, start="end")
    source.open()
    try:
        while len(source.position()) < 2:
            source.read(1, 0.1)
        broker.produce(topic, numbers(10, 5), partition=0)
        broker.produce(topic, numbers(4), partition=1)
        ends = time.monotonic() + 40
        while source.lag() < 14:
            source._open._taken_at = 0.0  # nothing is read: the thread pauses and polls
            assert time.monotonic() < ends, source.lag()
            time.sleep(0.05)
        old = {f"{topic}/0": 15, f"{topic}/1": 4}
        broker.delete_topic(topic)
        broker.topic(topic, partitions=2)
        broker.produce(topic, [b"n%d" % number for number in range(30)], partition=0)
        found = set()
        while not found >= {b"n%d" % number for number in range(30)}:
            found |= {record.data for record in source.read(100, 0.1)}
            assert time.monotonic() < ends, sorted(found)
        assert 0 < source.lost_upstream()[topic] <= 14
        source.commit({**old, f"{topic}/0": 40})
    finally:
        source.close()
    if group is not None:
        rest = KafkaSource(**settings, until_end=True)
        rest.open()
        try:
            assert len([each for each in read(rest) if each.data.startswith(b"n")]) == 30
        finally:
            rest.close()


def test_a_broker_that_is_killed_and_started_again(own_broker, read):
    """Source and store wait for a killed broker; in the end every record is stored, in order."""
    raw, out = own_broker.topic(), own_broker.topic()
    own_broker.produce(raw, numbers(500))
    source = ps.source("kafka", name="in", bootstrap_servers=own_broker.address, topics=[raw], group=f"g-{raw}")
    seen = threading.Event()

    def slow(record):
        if record.seq == 250:
            seen.set()
        time.sleep(0.002)  # slow processing, so that the kill falls in the middle
        return record

    store = ps.store("kafka", name="out", bootstrap_servers=own_broker.address, topic=out, payload="data")
    with ps.Pipeline(source >> ps.processor(slow) >> store, checkpoint_every_s=0.2).start() as run:
        assert seen.wait(60)
        own_broker.kill()
        own_broker.start()
        own_broker.produce(raw, numbers(100, 500))
        ends = time.monotonic() + 60
        while run.stats().node("in").received < 600:
            assert time.monotonic() < ends
            run.wait(0.1)
    assert run.report.received == run.report.stored == 600
    assert [record.data for record in everything(own_broker, out, read)] == numbers(600)


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_processor_that_takes_many_poll_intervals(broker, protocol):
    """A frame that takes longer than the poll interval (by default minutes) costs a run nothing: no partition moves, no
    record comes twice, and what is stored is committed.
    """
    raw = broker.topic(partitions=2)
    for partition in range(2):
        broker.produce(raw, numbers(50), partition=partition)
    began, slow = [], threading.Event()

    def work(record):
        if not began:
            began.append(time.monotonic())
            slow.wait(5.0)  # more than three poll intervals of work
        return record

    options = {"group.protocol": protocol, "max.poll.interval.ms": 1500}
    if protocol == "classic":
        options |= {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}
    kafka = {"bootstrap_servers": broker.address, "topics": [raw], "group": f"g-{raw}", "options": options}
    source = ps.source("kafka", name="in", until_end=True, **kafka)
    report = ps.Pipeline(source >> ps.processor(work) >> ps.store("null"), checkpoint_every_s=0.2).run()
    assert report.ok, report
    assert (report.received, report.stored) == (100, 100)
    again = ps.Pipeline(ps.source("kafka", name="in", until_end=True, **kafka) >> ps.store("null")).run()
    assert again.received == 0


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_source_is_removed_though_no_broker_answers(own_broker, protocol):
    """A source whose brokers stopped answering can be removed: neither commit nor close waits for them."""
    raw = own_broker.topic(partitions=2)
    own_broker.produce(raw, numbers(50), partition=0)
    source = ps.source(
        "kafka", name="in", bootstrap_servers=own_broker.address, topics=[raw], group=f"g-{raw}", timeout_s=1.0,
        refresh_s=0.3, options={"group.protocol": protocol},
    )  # fmt: skip
    stays = ps.source(iter(int, 1), name="stays") >> ps.store("null", name="other")
    with ps.Pipeline(source >> ps.store("null", name="kept"), stays, checkpoint_every_s=0.2).start() as run:
        ends = time.monotonic() + 30
        while run.stats().node("in").received < 50:
            assert time.monotonic() < ends
            run.wait(0.05)
        own_broker.produce(raw, numbers(50), partition=1)
        while run.stats().node("in").received < 100:
            assert time.monotonic() < ends
            run.wait(0.01)
        with own_broker.frozen():
            removing = threading.Thread(target=run.remove, args=("in", "kept"))
            removing.start()
            removing.join(30)
            is_removed = not removing.is_alive()
        removing.join()
    assert is_removed
    while any(thread.name.endswith("leaves") for thread in threading.enumerate()):
        assert time.monotonic() < ends + 90
        time.sleep(0.05)  # the client ends by itself once the broker answers


@pytest.mark.parametrize(
    "options", [{}, {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}], ids=["new", "classic"]
)
def test_members_that_are_killed(broker, read, options):
    """Three processes share eight cameras; whichever is killed, no stored record is missing."""
    names, out, settings = shared_cameras(broker, options, payload="data")
    with members(settings) as replace_one:
        step = PER_CAMERA // (KILLS + 1)
        for kill in range(KILLS + 1):
            for name in names:
                broker.produce(name, numbers(step, kill * step))
            if kill < KILLS:
                replace_one()
        wanted = {
            (camera, b"%d" % number) for camera in map(str, range(CAMERAS)) for number in range((KILLS + 1) * step)
        }
        ends = time.monotonic() + 60
        while True:
            found = [(record.metadata["key"], record.data) for record in everything(broker, out, read)]
            if wanted <= set(found):
                break
            assert time.monotonic() < ends, f"{len(wanted - set(found))} of {len(wanted)} are missing"
        assert wanted == set(found)


@pytest.mark.parametrize(
    "options", [{}, {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}], ids=["new", "classic"]
)
def test_decoding_members_that_are_killed(broker, read, drain, decode_all, options):
    """Three processes share eight cameras and decode them; who takes over begins at a keyframe; in the end every
    packet was produced again with the right picture's result: nothing is lost, and no picture is broken.
    """
    step = 7  # fewer than a group of pictures has: members die in the middle of one
    packets = drain(TestPictureSource(frames=(KILLS + 1) * 2 * step, width=64, height=48, rate=10, bframes=0))
    decoder = AvDecoder()
    reference = {frame.parent.seq: zlib.crc32(frame.data) for frame in decode_all(decoder, packets)}
    decoder.close()
    names, out, settings = shared_cameras(broker, options, payload="parent", headers={"offset": "{{ offset }}"})
    made = 0
    with members(settings, VISION) as replace_one:
        for kill in range(KILLS + 1):
            more = step if kill < KILLS else len(packets) - made
            for name in names:
                broker.produce(name, [each.data for each in packets[made : made + more]])
            made += more
            if kill < KILLS:
                replace_one()
        # the last picture of a camera may wait inside the decoder for the next packet
        wanted = {(str(camera), offset) for camera in range(CAMERAS) for offset in range(made - 3)}
        ends = time.monotonic() + 90
        while True:
            results = [
                (each.metadata["key"], int(each.metadata["headers"]["offset"]), int(each.metadata["headers"]["sum"]))
                for each in everything(broker, out, read)
            ]
            if wanted <= {(camera, offset) for camera, offset, _ in results}:
                break
            assert time.monotonic() < ends, (
                f"{len(wanted - {each[:2] for each in results})} of {len(wanted)} are missing"
            )
    assert all(found == reference[offset] for _, offset, found in results)


def test_exactly_once_through_kills(broker, read):
    """After repeated kills of a transactional pipeline, read-committed consumers see each record once."""
    raw, out = broker.topic(partitions=2), broker.topic(partitions=1)
    settings = {
        "source": {"bootstrap_servers": broker.address, "topics": [raw], "refresh_s": 1.0},
        "store": {"bootstrap_servers": broker.address, "topic": out, "payload": "data", "transactional": f"tx-{raw}"},
    }
    made = 0
    process = member(settings)
    try:
        for kill in range(EXACT_KILLS + 1):
            assert process.stdout.readline() == "begun\n"
            for _ in range(20):
                broker.produce(raw, numbers(25, made), partition=made // 25 % 2)
                made += 25
            ends = time.monotonic() + 60
            while len(everything(broker, out, read)) < made - (250 if kill < EXACT_KILLS else 0):
                assert time.monotonic() < ends
            if kill < EXACT_KILLS:
                process.kill()
                process.wait()
                process.stdout.close()
                process = member(settings)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
    found = [record.data for record in everything(broker, out, read)]
    assert sorted(found) == sorted(numbers(made))


@pytest.mark.parametrize(("group", "place"), [(True, "thread"), (False, "process")])
def test_a_topic_that_is_made_again_between_transactions(broker, read, caplog, group, place):
    """A kept position belongs to its topic, not to another of its name: nothing of the new one is missed."""
    caplog.set_level("WARNING", logger="penstock.kafka")  # a Comux may have set it before
    raw, other, out = broker.topic(), broker.topic(), broker.topic()
    kafka = {"bootstrap_servers": broker.address}

    def run():
        source = ps.source(
            "kafka", name="in", topics=[raw, other], until_end=True, group=f"g-{raw}" if group else None, place=place,
            **kafka,
        )  # fmt: skip
        store = ps.store("kafka", topic=out, payload="data", transactional=f"tx-{raw}", **kafka)
        return ps.Pipeline(source >> store).run()

    broker.produce(raw, numbers(20))
    broker.produce(other, numbers(5, 1000))
    assert run().stored == 25
    broker.delete_topic(raw)
    broker.topic(raw)
    broker.produce(raw, numbers(30, 100))
    broker.produce(other, numbers(5, 1005))
    assert run().stored == 35
    assert "recreated since" in caplog.text or place == "process"  # which has a log of its own
    assert run().stored == 0
    found = [record.data for record in everything(broker, out, read)]
    assert sorted(found) == sorted([*numbers(20), *numbers(30, 100), *numbers(10, 1000)])


def test_a_control_topic_of_a_pipeline(broker, read):
    """D5: `ps.control` takes actions from a topic, key and value, and answers on another; cameras keep running."""
    config, replies, raw = broker.topic(), broker.topic(), broker.topic()
    kafka = {"bootstrap_servers": broker.address}
    kept = ps.source("kafka", name="one", topics=[raw], **kafka) >> ps.store("null", name="kept")
    acting = ps.control("kafka", name="config", topics=[config], start="end", actions={"double": lambda run, n: n * 2},
                        **kafka)  # fmt: skip
    answers = acting >> ps.store("kafka", name="replies", topic=replies, payload="json", **kafka)
    with ps.Pipeline(kept, answers).start() as run:
        two = {
            "nodes": [
                {"name": "two", "source": "kafka", "settings": {**kafka, "topics": [raw]}},
                {"name": "kept-two", "store": "null"},
            ],
            "edges": [{"before": "two", "after": "kept-two"}],
        }
        broker.produce(raw, numbers(200))
        found, ends = [], time.monotonic() + 30
        for action, value in (("double", b"21"), ("create", json.dumps(two).encode()), ("explode", b"{not json")):
            broker.produce(config, [value], key=action)
            expected = len(found) + 1
            while len(found) < expected:
                found = [json.loads(record.data) for record in everything(broker, replies, read)]
                assert time.monotonic() < ends, found
        assert [(each["action"], each["ok"]) for each in found] == [
            ("double", True), ("create", True), ("explode", False),
        ]  # fmt: skip
        assert found[0]["result"] == 42
        broker.produce(config, [json.dumps(["two", "kept-two"]).encode()], key="delete")  # just created
        while len(found) < 4:
            found = [json.loads(record.data) for record in everything(broker, replies, read)]
            assert time.monotonic() < ends, found
        assert (found[3]["action"], found[3]["ok"]) == ("delete", True)
        while run.stats().node("kept").stored < 200:
            assert time.monotonic() < ends
            run.wait(0.05)


def test_one_camera_disturbs_no_other(broker, drain):
    """Garbage on one camera's topic is dead-lettered; its neighbour loses no frame."""
    mark = f"v{uuid.uuid4().hex[:6]}"
    good, bad = broker.topic(f"{mark}_good"), broker.topic(f"{mark}_bad")
    packets = [each.data for each in drain(TestPictureSource(frames=20, width=64, height=48, rate=10))]
    broker.produce(good, packets)
    broker.produce(bad, [b"garbage", None, b"", packets[3][:10], *packets[5:10]])
    source = ps.source("kafka", bootstrap_servers=broker.address, schema=f"{mark}_:cam_id", until_end=True)
    store = ps.store("memory")
    report = ps.Pipeline(source >> ps.decoder("av") >> store).run()
    assert report.received == 29
    assert report.dead_lettered >= 3
    assert report.account.node("memory").stored >= 20
