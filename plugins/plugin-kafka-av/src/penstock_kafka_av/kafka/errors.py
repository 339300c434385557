"""Errors of the client as errors of a source or a store; their messages never contain a secret."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, KafkaException

from penstock.errors import ConfigError, SourceError

HOPELESS = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError._SSL,
    }
)
"""Errors that a retry does not resolve."""

MOVED = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError._ASSIGNMENT_LOST,
    }
)
"""Errors of a commit which mean that the partitions belong to another member by now."""


def error_of(error: BaseException) -> KafkaError | None:
    """Return the client's error inside an exception."""
    first = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return first if isinstance(first, KafkaError) else None


def is_unsupported(error: KafkaError) -> bool:
    """Return whether the error means that the brokers do not support the group protocol of KIP-848."""
    codes = (KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION)
    return error.code() in codes or (error.code() == KafkaError._FATAL and "ConsumerGroupHeartbeat" in error.str())


def text_of(error: Any) -> str:
    """Return an error of the client as "NAME: text"."""
    inner = error_of(error) if isinstance(error, BaseException) else error
    return f"{inner.name()}: {inner.str()}" if isinstance(inner, KafkaError) else str(error)


def config_error(where: str, error: BaseException) -> ConfigError:
    """Return the error for a client that could not be created: an unknown option, or a bad value."""
    return ConfigError(f"{where}: options: {text_of(error)}")


def source_error(where: str, error: Any, *, doing: str) -> SourceError:
    """Return the error for a failed operation of a source; `doing` is its verb ("connect", "read")."""
    inner = error_of(error) if isinstance(error, BaseException) else error
    hopeless = isinstance(inner, KafkaError) and inner.code() in HOPELESS
    return SourceError(f"{where}: cannot {doing}: {text_of(error)}", retryable=not hopeless)
