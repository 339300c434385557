"""Options of the Kafka client: passed through unchanged, with secrets from the environment, and never printed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from penstock.errors import ConfigError
from penstock.short_text import short
from penstock.validators import finite_seconds

OWN: Final = {
    "bootstrap.servers": "set bootstrap_servers instead",
    "group.id": "set group instead",
    "transactional.id": "set transactional instead",
    "enable.auto.commit": "offsets are committed at checkpoints only",
    "enable.auto.offset.store": "offsets are committed at checkpoints only",
    **dict.fromkeys(("error_cb", "on_commit", "on_delivery", "dr_cb", "logger"), "penstock sets it"),
}
"""Options that the source and the store set themselves, with what to do instead."""


def servers(value: Any) -> tuple[str, ...]:
    """Return broker addresses as a tuple; text may hold several, separated by commas. Raises ConfigError."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, Sequence) or not given or not all(isinstance(each, str) and each for each in given):
        raise ConfigError(f"bootstrap_servers={short(value)}: give 'host:port', or a list of these")
    found = tuple(each.strip() for each in given)
    for each in found:
        port = each.rpartition(":")[2]
        if not is_plain(each) or (port.isdecimal() and ":" in each and not 0 < int(port) < 65536):
            raise ConfigError(f"bootstrap_servers={short(each)}: give 'host:port', with a port from 1 to 65535")
    return found


def is_plain(text: str) -> bool:
    """Return whether text can be passed to the client: it would truncate it at a zero, and abort if it is not UTF-8."""
    return "\0" not in text and text.encode("utf-8", "ignore").decode() == text


def check_name(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Raise ConfigError unless the value is None, or a name that the client can represent."""
    if value is not None and not (isinstance(value, str) and value and is_plain(value)):
        raise ConfigError(f"{field.name}={short(value)}: must be a name in UTF-8 that is not empty, without zeros")


def check_timeout(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Raise ConfigError unless the value is a number of seconds above 0 and up to an hour, the client's limit."""
    finite_seconds(_, field, value)
    if value > 3600:
        raise ConfigError(f"{field.name}={value!r}: must be at most 3600 seconds")


def check_options(_: object, __: object, value: Any) -> None:
    """Raise ConfigError for malformed or reserved options, without printing their values."""
    if not isinstance(value, Mapping):
        raise ConfigError("options: must be a mapping, as {'security.protocol': 'SASL_SSL'}")
    for name, setting in value.items():
        if not isinstance(name, str):
            raise ConfigError(f"options: {name!r} is not a name of a client option")
        if name in OWN:
            raise ConfigError(f"options: leave out {name!r}: {OWN[name]}")
        if not is_plain(name) or (isinstance(setting, str) and not is_plain(setting)):
            raise ConfigError(f"options: {name!r:.60}: must be text in UTF-8 without zeros")
        if isinstance(setting, Mapping) and (set(setting) != {"env"} or not isinstance(setting["env"], str)):
            raise ConfigError(f'options: {name}: write a value, or {{env = "NAME"}} for a secret')


def from_environment(value: Any, name: str) -> Any:
    """Return a setting, looked up in the environment if it is {"env": NAME}. Raises ConfigError naming the variable."""
    if not isinstance(value, Mapping):
        return value
    variable = value.get("env")
    if len(value) != 1 or not isinstance(variable, str):
        raise ConfigError(f'{name}: write a value, or {{env = "NAME"}} for a secret')
    if variable not in os.environ:
        raise ConfigError(f"{name}: the environment has no variable {variable!r}: set it")
    found = os.environ[variable]
    if not is_plain(found):
        raise ConfigError(f"{name}: the variable {variable!r} is not text in UTF-8: correct it")
    return found


def client_config(bootstrap_servers: Sequence[str], options: Mapping[str, Any], **own: Any) -> dict[str, Any]:
    """Return the client's configuration: defaults, then the user's options, then fixed settings.

    Args:
        bootstrap_servers: Addresses of brokers.
        options: The user's options; `{"env": NAME}` is looked up now.
        own: Defaults that the user's options may override, spelled with "_" for ".".

    Raises:
        ConfigError: a variable of the environment is missing; the message names it.
    """
    config: dict[str, Any] = {name.replace("_", "."): value for name, value in own.items()}
    for name, value in options.items():
        config[name] = from_environment(value, f"options: {name}")
    config["bootstrap.servers"] = ",".join(bootstrap_servers)
    return config
