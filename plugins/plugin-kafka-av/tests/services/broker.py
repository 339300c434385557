"""A real Kafka broker on free loopback ports: plain, SASL and TLS; `python broker.py` runs one for manual tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

sys.path.insert(0, str(Path(__file__).parent))
import cached

STARTS_S = 90.0
USER, PASSWORD, STORE_PASSWORD = "camera", "loopback-only", "loopback-only"

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{control}
listeners=PLAIN://127.0.0.1:{plain},AUTH://127.0.0.1:{sasl},TLS://127.0.0.1:{tls},STALE://127.0.0.1:{stale},CONTROL://127.0.0.1:{control}
controller.listener.names=CONTROL
inter.broker.listener.name=PLAIN
listener.security.protocol.map=PLAIN:PLAINTEXT,AUTH:SASL_PLAINTEXT,TLS:SSL,STALE:SSL,CONTROL:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.auth.plain.sasl.jaas.config={login} required user_{user}="{password}";
listener.name.tls.ssl.keystore.location={directory}/tls.p12
listener.name.tls.ssl.keystore.password={store_password}
listener.name.stale.ssl.keystore.location={directory}/stale.p12
listener.name.stale.ssl.keystore.password={store_password}
log.dirs={directory}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=3000
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=300
auto.create.topics.enable=false
log.retention.hours=-1
num.network.threads=2
num.io.threads=2
"""


class Broker:
    """A broker with one node, in its own directory.

    Attributes:
        address: "host:port" of the plain listener; `sasl`, `tls` and `stale` (an expired certificate) are the others.
        ca: The certificate that the TLS listener shows; `stale_ca` the one of `stale`.

    Args:
        directory: Where it keeps everything.
        features: Levels of the cluster's features, as "group.version=0"; the newest by default.
    """

    def __init__(self, directory: Path, *, features: str = "") -> None:
        self.directory = directory
        self._jars = cached.kafka_jars()
        ports = dict(zip(("plain", "sasl", "tls", "stale", "control"), cached.free_ports(5), strict=True))
        self.address, self.sasl, self.tls, self.stale = (
            f"127.0.0.1:{ports[name]}" for name in ("plain", "sasl", "tls", "stale")
        )
        self.ca, self.stale_ca = directory / "tls.pem", directory / "stale.pem"
        self._make_certificate("tls", "-validity", "30")
        self._make_certificate("stale", "-startdate", "-10d", "-validity", "1")
        (directory / "server.properties").write_text(
            PROPERTIES.format(
                **ports,
                login="org.apache.kafka.common.security.plain.PlainLoginModule",
                user=USER,
                password=PASSWORD,
                store_password=STORE_PASSWORD,
                directory=directory,
            )
        )
        self._java("kafka.tools.StorageTool", "format", "--standalone", "-t", uuid.uuid4().hex[:22],
                   "-c", "server.properties", *(["--feature", features] if features else []))  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def _make_certificate(self, name: str, *validity: str) -> None:
        store = ["-keystore", f"{name}.p12", "-storetype", "PKCS12", "-storepass", STORE_PASSWORD, "-alias", "broker"]
        self._tool("keytool", "-genkeypair", "-keyalg", "EC", "-dname", "CN=127.0.0.1", "-ext", "SAN=ip:127.0.0.1",
                   *validity, *store)  # fmt: skip
        self._tool("keytool", "-exportcert", "-rfc", "-file", f"{name}.pem", *store)

    def _java(self, *arguments: str) -> None:
        self._tool("java", "-Xmx128m", "-cp", f"{self._jars}/*", *arguments)

    def _tool(self, *command: str) -> None:
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stdout[-500:]}{done.stderr[-500:]}")

    def start(self) -> None:
        """Start it, and return when it answers."""
        with open(self.directory / "broker.log", "ab") as log:
            self._process = subprocess.Popen(
                ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", f"{self._jars}/*", "kafka.Kafka",
                 "server.properties"],
                cwd=self.directory, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        ends = time.monotonic() + STARTS_S
        while True:
            with contextlib.suppress(KafkaException):
                AdminClient({"bootstrap.servers": self.address, "log_level": 0}).list_topics(timeout=1)
                return
            if time.monotonic() > ends or self._process.poll() is not None:
                text = (self.directory / "broker.log").read_text(errors="replace")[-2000:]
                self.kill()
                raise RuntimeError(f"the broker does not answer: {text}")

    def kill(self) -> None:
        """Kill it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Suspend the broker for a block: its connections stay open and get no answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it and remove its files."""
        self.kill()

    @property
    def admin(self) -> AdminClient:
        """A client that manages topics; its connections close when it is freed."""
        return AdminClient({"bootstrap.servers": self.address, "log_level": 3})

    def _ask(self, method: str, argument: list[Any]) -> None:
        client = self.admin  # keep a reference until it is answered
        for each in getattr(client, method)(argument).values():
            each.result(30)

    def topic(self, name: str = "", *, partitions: int = 1, **config: Any) -> str:
        """Create a topic, and return its name."""
        name = name or f"t{uuid.uuid4().hex[:8]}"
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        self._ask("create_topics", [NewTopic(name, partitions, 1, config=settings)])
        return name

    def delete_topic(self, name: str) -> None:
        """Delete a topic, and return when it is gone."""
        self._ask("delete_topics", [name])
        while name in self.admin.list_topics(timeout=10).topics:
            threading.Event().wait(0.05)

    def add_partitions(self, name: str, count: int) -> None:
        """Increase the number of a topic's partitions."""
        self._ask("create_partitions", [NewPartitions(name, count)])

    def delete_before(self, name: str, offset: int, *, partition: int = 0) -> None:
        """Delete the messages before an offset, as retention does."""
        self._ask("delete_records", [TopicPartition(name, partition, offset)])

    def produce(self, topic: str, values: Iterable[bytes | None], **message: Any) -> None:
        """Produce values, and wait for the acknowledgements; `message` has key, partition and headers."""
        producer = Producer({"bootstrap.servers": self.address, "message.max.bytes": 50_000_000, "linger.ms": 0})
        failed: list[Any] = []
        for value in values:
            producer.produce(
                topic, value, on_delivery=lambda error, _: failed.append(error) if error else None, **message
            )
            producer.poll(0)
        producer.flush(60)
        if failed:
            raise KafkaException(failed[0])


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Broker]:
    """Run a broker for a block. Raises cached.NotThere."""
    broker = Broker(directory)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def main() -> None:
    """Run a broker until Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="penstock-kafka-") as directory, running(Path(directory)) as broker:
        print(f"plain: {broker.address}\nSASL:  {broker.sasl} (PLAIN, {USER} / {PASSWORD})")
        print(f"TLS:   {broker.tls} (ssl.ca.location={broker.ca})\nCtrl-C ends it, process {os.getpid()}")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
