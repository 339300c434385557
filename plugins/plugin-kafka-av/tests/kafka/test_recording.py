"""A run from Kafka to video files that is killed keeps what it acknowledged, and its files can be played."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time

import av
import pytest
from confluent_kafka import Consumer, TopicPartition

from penstock_kafka_av.recording.journal import read_journal
from penstock_kafka_av.test_picture import TestPictureSource

KILLS = 20 if os.environ.get("PENSTOCK_FAULTS") == "full" else 3
STEP = 40
"""Packets of each camera between two kills; a keyframe every ten."""

RECORDER = """
import json, sys
import penstock as ps
settings = json.loads(sys.argv[1])
source = ps.source("kafka", name="cameras", **settings["source"])
pipeline = ps.Pipeline(source >> ps.store("video", **settings["store"]), checkpoint_every_s=0.1)
print(pipeline.run().ok, flush=True)
"""


@pytest.fixture(scope="module")
def packets(drain):
    """What a camera sends."""
    return [
        each.data
        for each in drain(TestPictureSource(frames=STEP * (KILLS + 1), width=64, height=48, rate=10, bframes=0))
    ]


def committed(broker, group, topic):
    """What the group has acknowledged of a camera."""
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": group})
    try:
        return max(0, consumer.committed([TopicPartition(topic, 0)], timeout=30)[0].offset)
    finally:
        consumer.close()


def recorded(root, channel):
    """The numbers that the journals of a channel name, and the packets that its files hold, file by file."""
    seqs, packets = [], []
    for path in sorted(root.glob(f"{channel}-*.jsonl")):
        journal = read_journal(path.read_bytes())
        if journal is None or not journal.fragments:
            continue
        seqs += [seq for first, last in journal.runs() for seq in range(first, last + 1)]
        with av.open(str(path.with_name(path.name.removesuffix(".jsonl")))) as container:
            packets += [packet for packet in container.demux(video=0) if packet.size]
    return seqs, packets


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_recording_that_is_killed(broker, tmp_path, packets, suffix):
    """Packets of two cameras go into segments unchanged; at every `kill -9` all that was committed is in files that can
    be played, and in the end each packet is there once, in order, and every picture comes out.
    """
    chance = random.Random(suffix)
    mark = broker.topic()
    topics = {each: broker.topic(f"{mark}_{each}") for each in ("front", "back")}
    root = tmp_path / "videos"
    settings = {
        "source": {"bootstrap_servers": broker.address, "schema": f"{mark}_:cam_id", "group": mark, "refresh_s": 1.0,
                   "options": {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}},
        "store": {"path": "{{ channel }}-{{ '%03d' % segment }}" + suffix, "root": str(root), "segment_s": 1.5,
                  "when_exists": "skip"},
    }  # fmt: skip
    made, safe = 0, dict.fromkeys(topics, 0)
    for kill in range(KILLS + 1):
        command = [sys.executable, "-c", RECORDER, json.dumps(settings)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as recorder:
            try:
                for topic in topics.values():
                    broker.produce(topic, packets[made : made + STEP])
                made += STEP
                enough = made if kill == KILLS else made - chance.randint(1, STEP // 2)
                ends = time.monotonic() + 90
                while any(committed(broker, mark, topic) < enough for topic in topics.values()):
                    assert time.monotonic() < ends
            finally:
                recorder.kill() if kill < KILLS else recorder.terminate()
            said = recorder.stdout.read()
        assert said == ("True\n" if kill == KILLS else "")
        for channel, topic in topics.items():
            safe[channel] = committed(broker, mark, topic)
            seqs, files = recorded(root, channel)
            assert seqs == list(range(len(seqs))), "none is missing, and none is there twice"
            assert len(seqs) >= safe[channel] >= enough
            assert len(files) >= len(seqs)
    for channel in topics:
        seqs, files = recorded(root, channel)
        assert len(seqs) == len(files) == made
        decoder = av.CodecContext.create("h264", "r")
        frames = [frame for packet in (*files, None) for frame in decoder.decode(packet_of(packet))]
        assert len(frames) == made
        assert not any(frame.is_corrupt for frame in frames)
    assert not list(root.glob("*.part*"))


def packet_of(packet):
    """Return a packet of a file with start codes, as it was sent."""
    if packet is None:
        return None
    data, parts, at = bytes(packet), [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        parts.append(b"\0\0\0\1" + data[at + 4 : at + 4 + size])
        at += 4 + size
    return av.Packet(b"".join(parts))
