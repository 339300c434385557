"""Kafka: a pipeline's source and store, and both ends of a link, beside bare loops of confluent_kafka, in one run.

`python benchmarks/kafka_topics.py` prints messages/s of each, the ratio, and JSON. Needs Java and Maven; see
plugins/plugin-kafka-av/tests/services.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

import penstock as ps

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins" / "plugin-kafka-av" / "tests" / "services"))
import broker as services

COUNT, SIZE, TURNS = 3000, 100_000, 3


class Clock:
    """A store that notes when its first and its last list came."""

    def __init__(self) -> None:
        self.lists: list[tuple[int, int]] = []

    def open(self) -> None:
        """Begin."""

    def write(self, records: Sequence[ps.Record]) -> None:
        """Note a list."""
        self.lists.append((time.perf_counter_ns(), len(records)))

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def rate(self) -> float:
        """Return the messages/s behind the first list."""
        (first, early), (last, _) = self.lists[0], self.lists[-1]
        return (sum(count for _, count in self.lists) - early) / (last - first) * 1e9


def bare_consume(address: str, topic: str) -> float:
    """Return messages/s of a loop of consume(500)."""
    config = {"bootstrap.servers": address, "group.id": uuid.uuid4().hex, "enable.auto.commit": False}
    consumer = Consumer(config)
    consumer.assign([TopicPartition(topic, 0, 0)])
    first = last = count = 0
    while count < COUNT:
        found = consumer.consume(500, 0.5)
        last = time.perf_counter_ns()
        if found and not first:
            first, early = last, len(found)
        count += sum(len(each.value()) > 0 for each in found)
    consumer.close()
    return (count - early) / (last - first) * 1e9


def penstock_consume(address: str, topic: str) -> float:
    """Return messages/s of a pipeline into the null store."""
    source = ps.source("kafka", bootstrap_servers=address, topics=[topic], until_end=True)
    clock = Clock()
    _run(source >> ps.store(clock))
    return clock.rate()


def bare_produce(address: str, topic: str) -> float:
    """Return messages/s of a loop of an idempotent producer."""
    data = [bytes(SIZE)] * COUNT
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True})
    began = time.perf_counter()
    for each in data:
        while True:
            try:
                producer.produce(topic, each)
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush()
    return COUNT / (time.perf_counter() - began)


def penstock_produce(address: str, topic: str) -> float:
    """Return messages/s of a pipeline into the kafka store."""
    data = [ps.Record(bytes(SIZE), channel="c", seq=number) for number in range(COUNT)]
    store = ps.store("kafka", bootstrap_servers=address, topic=topic, payload="data")
    return _run(ps.source(data) >> store)


def link_write(address: str, topic: str) -> float:
    """Return records/s of a pipeline into a link."""
    data = [ps.Record(bytes(SIZE), channel="c", seq=number, time_ns=number) for number in range(COUNT)]
    return _run(ps.source(data) >> ps.store("kafka-link", bootstrap_servers=address, topic=topic))


def link_read(address: str, topic: str) -> float:
    """Return records/s of a pipeline out of a link."""
    clock = Clock()
    source = ps.source("kafka-link", bootstrap_servers=address, topic=topic, group=uuid.uuid4().hex, until_end=True)
    _run(source >> ps.store(clock))
    return clock.rate()


def _run(flow: ps.Flow) -> float:
    began = time.perf_counter()
    report = ps.Pipeline(flow).run()
    took = time.perf_counter() - began
    assert report.stored == COUNT, report
    return COUNT / took


def main() -> None:
    """Measure in turns, and print medians."""
    table = {}
    with tempfile.TemporaryDirectory() as directory, services.running(Path(directory)) as broker:
        raw = broker.topic()
        broker.produce(raw, [bytes(SIZE)] * COUNT)
        link = broker.topic()
        link_write(broker.address, link)
        pairs = {
            "consume": (bare_consume, penstock_consume, raw),
            "produce": (bare_produce, penstock_produce, ""),
            "link, in": (bare_produce, link_write, ""),
            "link, out": (bare_consume, link_read, link),
        }
        for name, (bare, ours, filled) in pairs.items():
            figures: dict[str, list[float]] = {"bare": [], "penstock": []}
            for _ in range(TURNS):
                for who, measure in (("bare", bare), ("penstock", ours)):
                    figures[who].append(measure(broker.address, filled or broker.topic()))
            medians = {who: round(statistics.median(each)) for who, each in figures.items()}
            table[name] = {**medians, "ratio": round(medians["penstock"] / medians["bare"], 2)}
            print(f"{name:9} bare {medians['bare']:>7}/s  penstock {medians['penstock']:>7}/s  {table[name]['ratio']}")
    print(json.dumps({"messages": COUNT, "size_bytes": SIZE, "turns": TURNS, **table}))


if __name__ == "__main__":
    main()
