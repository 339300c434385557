"""Settings that the Kafka client cannot represent are refused with setting, value and remedy; no broker is needed."""

from __future__ import annotations

import pytest

from penstock.errors import ConfigError
from penstock_kafka_av import KafkaSource, KafkaStore
from penstock_kafka_av.comux.client_options import renamed
from penstock_kafka_av.kafka.link.source import KafkaLinkSource
from penstock_kafka_av.kafka.link.store import KafkaLinkStore

PLACE = {"bootstrap_servers": "localhost:1"}


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
def test_names_that_the_client_cannot_represent(name):
    """An empty name, a zero or a lone surrogate is refused: the client truncates the name, or aborts the process."""
    for made, setting in (
        (lambda: KafkaSource(topics=["t"], group=name, **PLACE), "group"),
        (lambda: KafkaLinkSource(topic="t", group=name, **PLACE), "group"),
        (lambda: KafkaStore(transactional=name, **PLACE), "transactional"),
        (lambda: KafkaSource(topics=[name], **PLACE), "topic|list of names"),
        (lambda: KafkaSource(topics=["t"], bootstrap_servers=name), "bootstrap_servers"),
    ):
        with pytest.raises(ConfigError, match=setting):
            made()


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_options_that_the_client_cannot_represent(value, monkeypatch):
    """Such an option is refused by its name, without its value, also if the value is in the environment."""
    with pytest.raises(ConfigError, match=r"sasl\.password") as failed:
        KafkaSource(topics=["t"], options={"sasl.password": value}, **PLACE)
    assert value not in str(failed.value)
    if "\0" not in value:
        monkeypatch.setenv("BAD_SECRET", value.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape"))
        source = KafkaSource(topics=["t"], options={"sasl.password": {"env": "BAD_SECRET"}}, **PLACE)
        with pytest.raises(ConfigError, match="'BAD_SECRET' is not text in UTF-8"):
            source.open()


@pytest.mark.parametrize("topic", ["a b", "ü", ".", "..", "x" * 250])
def test_topics_that_cannot_exist(topic):
    """A topic that Kafka does not allow is refused, instead of waited for."""
    with pytest.raises(ConfigError, match="must be a topic name of letters"):
        KafkaSource(topics=["t", topic], **PLACE)
    with pytest.raises(ConfigError, match="must be a topic name of letters"):
        KafkaLinkSource(topic=topic, **PLACE)
    with pytest.raises(ConfigError, match="must be a topic name of letters"):
        KafkaStore(topic=topic, **PLACE)


@pytest.mark.parametrize("address", ["host:0", "host:65536", "host:99999999999999999999", "h\0:1", "[::1]:70000"])
def test_ports_that_do_not_exist(address):
    """A port that the client would wrap around is refused."""
    with pytest.raises(ConfigError, match="port from 1 to 65535"):
        KafkaSource(topics=["t"], bootstrap_servers=["good:9092", address])


@pytest.mark.parametrize("address", ["host", "host:9092", "[::1]:9092", "::1", "PLAINTEXT://host:9092", "a:1, b:2"])
def test_addresses_that_exist(address):
    """Addresses with or without port and protocol are accepted."""
    KafkaSource(topics=["t"], bootstrap_servers=address)


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("group.id", "set group instead"),
        ("bootstrap.servers", "set bootstrap_servers instead"),
        ("enable.auto.commit", "at checkpoints only"),
        ("error_cb", "penstock sets it"),
    ],
)
def test_options_that_penstock_sets(option, remedy):
    """An option that would be ignored is refused, with what to do instead."""
    with pytest.raises(ConfigError, match=remedy):
        KafkaSource(topics=["t"], options={option: "x"}, **PLACE)


def test_options_of_kafka_python():
    """Names of kafka-python become those of librdkafka; others stay."""
    given = {"security_protocol": 1, "sasl_plain_username": 2, "ssl_cafile": 3, "client.id": 4, "stats_cb": 5}
    assert list(renamed(given)) == ["security.protocol", "sasl.username", "ssl.ca.location", "client.id", "stats_cb"]


@pytest.mark.parametrize("made", [KafkaSource, KafkaStore, KafkaLinkSource, KafkaLinkStore])
@pytest.mark.parametrize("timeout_s", [0, -1, 3601, 1e12, float("inf"), float("nan")])
def test_timeouts_beyond_the_limit_of_the_client(made, timeout_s):
    """A timeout that the client cannot represent is refused, with the limit."""
    name = {"topics": "t"} if made is KafkaSource else {"topic": "t"}
    with pytest.raises(ConfigError, match=r"timeout_s=.*seconds"):
        made(timeout_s=timeout_s, **name, **PLACE)
