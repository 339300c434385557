"""The log of the Kafka clients."""

from __future__ import annotations

import logging

import pytest

from penstock.errors import CannotConnectToStoreError, SourceError
from penstock_kafka_av import KafkaSource, KafkaStore


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (KafkaSource(bootstrap_servers="127.0.0.1:9", topics=["t"], timeout_s=2.0), SourceError),
        (KafkaStore(bootstrap_servers="127.0.0.1:9", topic="t", timeout_s=2.0), CannotConnectToStoreError),
    ],
)
def test_a_broker_that_is_down_is_logged_once(made, error, caplog):
    """The line of each attempt to connect is logged as an error once, then as debugging output."""
    caplog.set_level("DEBUG", logger="penstock.kafka")
    with pytest.raises(error, match="cannot connect"):
        made.open()
    attempts = [each for each in caplog.records if "Connect to" in each.getMessage() and "FAIL" in each.getMessage()]
    assert len(attempts) > 1
    assert [each.levelno for each in attempts if each.levelno > logging.DEBUG] == [logging.ERROR]
