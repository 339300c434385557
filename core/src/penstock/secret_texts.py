"""Secrets in settings: hidden in texts that are shown, and refused in data that are written to a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from penstock.errors import ConfigError

_NAMED: Final = re.compile(r"pass?w|pwd|passphrase|secret|token|credential|private|jaas|key[._]pem", re.IGNORECASE)
_REFUSED: Final = re.compile(r"pass?w|pwd|passphrase|secret|jaas|key[._]pem", re.IGNORECASE)
_IN_URL: Final = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*@")
_HIDDEN: Final = "…"


def is_secret(name: object) -> bool:
    """Return whether this is the name of a secret."""
    return isinstance(name, str) and _NAMED.search(name) is not None


def without_secrets(value: Any) -> Any:
    """Return plain data without the values of secrets, and without users and passwords in URLs.

    >>> without_secrets({"sasl.password": "x", "uri": "mongodb://me:x@host/db", "key": {"env": "KEY"}})
    {'sasl.password': '…', 'uri': 'mongodb://…@host/db', 'key': {'env': 'KEY'}}
    """
    if isinstance(value, str):
        return _IN_URL.sub(f"{_HIDDEN}@", value) if "://" in value else value
    if isinstance(value, Mapping):
        return {
            name: _HIDDEN if is_secret(name) and not _is_reference(each) else without_secrets(each)
            for name, each in value.items()
        }
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(without_secrets(each) for each in value)
    return value


def refuse_secrets(value: Any, path: str) -> None:
    """Refuse plain data that hold a password as text. Raises ConfigError, which names the place and not the text."""
    if isinstance(value, str):
        if _IN_URL.search(value):
            raise ConfigError(f"{path} is a URL with a password, which a file would show: {_REMEDY}")
    elif isinstance(value, Mapping):
        for name, each in value.items():
            if isinstance(each, (str, bytes)) and each and isinstance(name, str) and _REFUSED.search(name):
                raise ConfigError(f"{path}.{name} is a secret, which a file would show: {_REMEDY}")
            refuse_secrets(each, f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            refuse_secrets(each, f"{path}[{index}]")


_REMEDY: Final = (
    'write {env = "NAME"} instead if the component supports it (Kafka, Mongo), or omit it and set it in Python'
)


def _is_reference(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"env"}
