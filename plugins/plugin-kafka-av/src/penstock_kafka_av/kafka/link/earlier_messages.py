"""Messages of a link's partition before the offset where a source begins."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from penstock.codec import decode
from penstock.errors import CodecError, SourceError
from penstock.record import Record
from penstock_kafka_av.kafka.client_log import ClientLog
from penstock_kafka_av.kafka.errors import source_error
from penstock_kafka_av.kafka.headers import headers_of
from penstock_kafka_av.kafka.link.mark import HEADER, Mark

_log = logging.getLogger("penstock.kafka")
_AT_ONCE: Final = 500

Found = list[tuple[Mark, Record | None]]


def messages_before(
    config: Mapping[str, Any], topic: str, number: int, offset: int, *, count: int, timeout_s: float, where: str
) -> Found:
    """Return the last messages before an offset, in order, without their data.

    Reads the newest first. If not all arrive within `timeout_s`, it logs a warning and leaves out the rest.

    Raises:
        SourceError: no broker answers.
    """
    own = {"group.id": f"penstock-{uuid.uuid4()}", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    consumer = Consumer({**config, **own}, logger=ClientLog())
    ends = time.monotonic() + timeout_s
    found: Found = []
    try:
        low, _ = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=timeout_s)
        first = max(low, offset - count)
        until = offset
        while until > first:
            begin = max(first, until - _AT_ONCE)
            piece = _between(consumer, topic, number, begin, until, ends)
            if piece is None:
                _log.warning(
                    "%s: partition %d: only %d of %d records before offset %d were read in %g s: duplicates of "
                    "earlier ones are not detected", where, number, len(found), offset - first, offset, timeout_s,
                )  # fmt: skip
                break
            found[:0] = piece
            until = begin
    except KafkaException as error:
        raise source_error(where, error, doing="read earlier messages") from error
    finally:
        consumer.close()
    return found


def _between(consumer: Consumer, topic: str, number: int, begin: int, until: int, ends: float) -> Found | None:
    consumer.assign([TopicPartition(topic, number, begin)])
    found: Found = []
    while True:
        for message in consumer.consume(_AT_ONCE, 0.1):
            error = message.error()
            if error is not None:
                if not error.retriable():
                    raise SourceError(f"partition {number} of {topic!r}: {error.str()}")
                continue
            if (message.offset() or 0) < until:
                known = _known(message)
                if known is not None:
                    found.append(known)
        [at] = consumer.position([TopicPartition(topic, number)])
        if at.offset >= until:
            return found
        if time.monotonic() > ends:
            return None


def _known(message: Message) -> tuple[Mark, Record | None] | None:
    headers = dict(headers_of(message)[0])
    value = headers.get(HEADER)
    if value is None:
        return None
    try:
        mark = Mark.of(value if isinstance(value, bytes) else str(value).encode())
        return mark, None if mark.is_end else decode(message.value() or b"").replace(data=None)
    except CodecError:
        return None  # the source that read it dead-lettered it
