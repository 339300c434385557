"""The Kafka sources and stores keep the contracts' promises against a real broker."""

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
    """A broker and topics for a contract, each topic named after the directory of its test."""

    @pytest.fixture(autouse=True)
    def use(self, broker):
        """Store the broker."""
        type(self).broker = broker

    def topic(self, tmp_path, **settings):
        """Create the topic of a test once."""
        name = f"c-{tmp_path.name}"
        if name not in self.broker.admin.list_topics(timeout=10).topics:
            self.broker.topic(name, **settings)
        return name


class TestKafkaSource(_OnBroker, SourceContract):
    """A topic that a group reads to its end."""

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
        """Creating a source does not connect."""
        KafkaSource(bootstrap_servers="127.0.0.1:9", topics=["none"])


class TestKafkaSourceThatWaits(TestKafkaSource):
    """A topic that is read for ever."""

    ends = False
    slack_s = 2.0
    settings = {"group": "waits"}


class TestKafkaStore(_OnBroker, StoreContract):
    """Records encoded by penstock's codec."""

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
    """The sending end of a link."""

    def make_store(self, tmp_path):
        address = self.broker.address if hasattr(type(self), "broker") else "127.0.0.1:9"
        return KafkaLinkStore(bootstrap_servers=address, topic=f"l-{tmp_path.name}", partitions=2)

    def make_unopenable(self, tmp_path):
        return KafkaLinkStore(bootstrap_servers="127.0.0.1:9", topic="none", timeout_s=0.5)


class TestKafkaLinkSource(TestKafkaSource):
    """The receiving end of a link, read to the end of the sending run."""

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
        """Creating a source does not connect."""
        KafkaLinkSource(bootstrap_servers="127.0.0.1:9", topic="none")


def test_nobody_answers():
    """Source and store name a missing broker, within their timeout."""
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9"):
        KafkaSource(bootstrap_servers="127.0.0.1:9", topics=["t"], timeout_s=0.5).open()
    with pytest.raises(CannotConnectToStoreError, match=r"127\.0\.0\.1:9"):
        KafkaStore(bootstrap_servers="127.0.0.1:9", topic="t", timeout_s=0.5).open()
