"""Control: runs actions on a Comux from a config topic; a message's key names the action, its value is the argument."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from penstock.arguments import checks_arguments
from penstock.compose.factories import processor, source, store
from penstock.compose.pipeline import Pipeline
from penstock.error_text import text_of
from penstock.record import Record
from penstock_kafka_av.comux.client_options import renamed
from penstock_kafka_av.kafka.source import KafkaSource

_log = logging.getLogger("penstock.comux")
Act = Callable[[Any, Any], Any]


class Control:
    """Read a config topic from its end, and execute its actions one after the other.

    Actions are `create`, `delete` and `update` of a camera, and the user's own, which may override those. An unknown
    or failed action is answered with an error; the next ones are still executed.

    Args:
        topic: The config topic.
        bootstrap_servers: Its brokers.
        acts: Names to functions of (comux, value); the value is parsed as JSON, or is text if it is not JSON.
        comux: The Comux on which they act, or another object that your own actions take.
        reply_topic: Topic of the answers: JSON with "action", "ok" and "result" or "error", under the action's key.
        options: Options of the Kafka client.
    """

    @checks_arguments
    def __init__(
        self,
        topic: str,
        bootstrap_servers: Any,
        acts: Mapping[str, Act],
        comux: Any,
        *,
        reply_topic: str | None = None,
        **options: Any,
    ) -> None:
        self.topic = topic
        self.comux = comux
        self.acts: dict[str, Act] = {
            "create": lambda cameras, value: cameras.create(value),
            "delete": lambda cameras, value: cameras.delete(value),
            "update": lambda cameras, value: cameras.update(value),
            **acts,
        }
        self.offset = -1
        self._options = renamed(options)
        self._reply_topic = reply_topic
        self._bootstrap_servers = bootstrap_servers
        self._source: KafkaSource | None = None
        self._run: Any = None
        self.connect(bootstrap_servers)
        self.sub()
        self.run()

    def connect(self, bootstrap_servers: Any) -> None:
        """Set the brokers; `run` connects."""
        self._bootstrap_servers = bootstrap_servers

    def sub(self) -> None:
        """Create the source of the topic."""
        self._source = KafkaSource(
            bootstrap_servers=self._bootstrap_servers, topics=[self.topic], start="end", refresh_s=1.0,
            options=self._options,
        )  # fmt: skip

    def run(self) -> None:
        """Start to read the topic in separate threads. Raises SourceError if no broker answers."""
        if self._run is not None:
            return
        if self._source is None:
            self.sub()
        assert self._source is not None
        flow = source(self._source, name="config") >> processor(self._answer, name="act")
        if self._reply_topic is None:
            end = store("null", name="answers")
        else:
            end = store(
                "kafka", name="answers", bootstrap_servers=self._bootstrap_servers, topic=self._reply_topic,
                key="{{ key|default('(none)', true) }}", payload="json", options=self._options,
            )  # fmt: skip
        self._run = Pipeline(flow >> end).start()

    def _answer(self, record: Record) -> Record:
        action, value = str(record.metadata.get("key", "")), _plain(record.data)
        self.offset = record.metadata["offset"]
        answer: dict[str, Any] = {"action": action, "ok": action in self.acts}
        try:
            answer["result"] = self.act(action, value)
        except BaseException as error:  # an action may raise anything; its error is the answer
            answer.update(ok=False, error=text_of(error))
        _log.info("control: %s", answer)
        return record.replace(data=_as_text(answer))

    def act(self, action: str, value: Any) -> Any:
        """Execute an action, and return its result, or a sentence if there is no action of that name."""
        if action not in self.acts:
            return f"✘ No action '{action}' defined!"
        return self.acts[action](self.comux, value)

    def kill(self) -> None:
        """Stop reading. Actions may call this too."""
        run, self._run = self._run, None
        if run is None:
            return
        if threading.current_thread().name.startswith("penstock"):
            run.stop_soon()
        else:
            run.stop()

    @property
    def topic_last_offset(self) -> int | None:
        """The end offset (last offset + 1) of the topic's first partition; None if the broker does not answer."""
        from confluent_kafka import Consumer, KafkaException, TopicPartition

        from penstock_kafka_av.kafka.client_log import ClientLog
        from penstock_kafka_av.kafka.options import client_config, servers

        config = client_config(servers(self._bootstrap_servers), self._options)
        consumer = Consumer({**config, "group.id": "penstock-none"}, logger=ClientLog())
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(self.topic, 0), timeout=10)[1])
        except (KafkaException, TypeError):
            return None
        finally:
            consumer.close()


def _plain(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "replace")


def _as_text(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer that can be written as JSON."""
    try:
        json.dumps(answer)
    except (TypeError, ValueError):
        return {**answer, "result": repr(answer.get("result"))}
    return dict(answer)
