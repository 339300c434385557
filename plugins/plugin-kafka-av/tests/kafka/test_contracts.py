"""The promises that every source and store makes, kept by those of Kafka against a real broker."""

from __future__ import annotations

import pytest

from penstock.errors import CannotConnectToStoreError, SourceError
from penstock.record import Record
from penstock.testing import SourceContract, StoreContract
from penstock_kafka_av.kafka.link.source import KafkaLinkSource
from penstock_kafka_av.kafka.link.store import KafkaLinkStore
from penstock_kafka_av.kafka.source import KafkaSource
from penstock_kafka_av.kafka.store import KafkaStore


class _OnBroker:
    """A broker and topics for a contract, each named after the directory of its test."""

    @pytest.fixture(autouse=True)
    def use(self, broker):
        """Have the broker."""
        type(self).broker = broker

    def topic(self, tmp_path, **settings):
        """Make the topic of a test once."""
        name = f"c-{tmp_path.name}"
        if name not in self.broker.admin.list_topics(timeout=10).topics:
            self.broker.topic(name, **settings)
        return name


class TestKafkaSource(_OnBroker, SourceContract):
    """A topic that is read to its end by a group."""

    count = 10
    remembers_commit = True
    settings = {"group": "contract", "until_end": True, "start": "committed"}

    def make_source(self, tmp_path):
        name = f"c-{tmp_path.name}"
        if hasattr(type(self), "broker"):
            there = name in self.broker.admin.list_topics(timeout=10).topics
            self.topic(tmp_path)
            if not there:
                for number in range(self.count):
                    self.broker.produce(name, [b"%d" % number], key=b"k")
        settings = {**self.settings}
        settings["group"] += tmp_path.name
        return KafkaSource(bootstrap_servers=self.broker.address, topics=[name], **settings)

    def make_unopenable(self, tmp_path):
        return KafkaSource(bootstrap_servers="127.0.0.1:9", topics=["none"], timeout_s=0.5)

    def test_building_does_nothing(self, tmp_path):
        """Building a source connects to nothing."""
        KafkaSource(bootstrap_servers="127.0.0.1:9", topics=["none"])


class TestKafkaSourceThatWaits(TestKafkaSource):
    """A topic that goes on for ever."""

    ends = False
    slack_s = 2.0
    settings = {"group": "waits"}


class TestKafkaStore(_OnBroker, StoreContract):
    """Records by penstock's codec."""

    on_disk = False
    many = 500
    big_bytes = 4 << 20
    settings = {"payload": "codec"}

    def make_store(self, tmp_path):
        if hasattr(type(self), "broker") and tmp_path.name != "unused":
            self.topic(tmp_path, max_message_bytes=40_000_000)
        return KafkaStore(
            bootstrap_servers=self.broker.address if hasattr(type(self), "broker") else "127.0.0.1:9",
            topic=f"c-{tmp_path.name}", options={"message.max.bytes": 40_000_000}, **self.settings,
        )  # fmt: skip

    def make_unopenable(self, tmp_path):
        return KafkaStore(bootstrap_servers="127.0.0.1:9", topic="none", timeout_s=0.5)


class TestTransactionalStore(TestKafkaStore):
    """Records and positions in transactions."""

    def make_store(self, tmp_path):
        self.settings = {"transactional": f"tx-{tmp_path.name}"}
        return super().make_store(tmp_path)


class TestKafkaLinkStore(TestKafkaStore):
    """The near end of a link."""

    def make_store(self, tmp_path):
        address = self.broker.address if hasattr(type(self), "broker") else "127.0.0.1:9"
        return KafkaLinkStore(bootstrap_servers=address, topic=f"l-{tmp_path.name}", partitions=2)

    def make_unopenable(self, tmp_path):
        return KafkaLinkStore(bootstrap_servers="127.0.0.1:9", topic="none", timeout_s=0.5)


class TestKafkaLinkSource(TestKafkaSource):
    """The far end of a link, read to the end of the run before it."""

    def make_source(self, tmp_path):
        name = f"l-{tmp_path.name}"
        if hasattr(type(self), "broker") and name not in self.broker.admin.list_topics(timeout=10).topics:
            store = KafkaLinkStore(bootstrap_servers=self.broker.address, topic=name, partitions=2)
            store.open()
            store.write([Record({"n": n}, channel="c", seq=n, time_ns=n + 1) for n in range(self.count)])
            store.sync()
            store.close()
        return KafkaLinkSource(bootstrap_servers=self.broker.address, topic=name, until_end=True)

    def make_unopenable(self, tmp_path):
        return KafkaLinkSource(bootstrap_servers="127.0.0.1:9", topic="none", timeout_s=0.5)

    def test_building_does_nothing(self, tmp_path):
        """Building a source connects to nothing."""
        KafkaLinkSource(bootstrap_servers="127.0.0.1:9", topic="none")


def test_nobody_answers():
    """A broker that is not there is named by source and store, within their time."""
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9"):
        KafkaSource(bootstrap_servers="127.0.0.1:9", topics=["t"], timeout_s=0.5).open()
    with pytest.raises(CannotConnectToStoreError, match=r"127\.0\.0\.1:9"):
        KafkaStore(bootstrap_servers="127.0.0.1:9", topic="t", timeout_s=0.5).open()
