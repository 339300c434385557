"""Options of the Kafka client: passed through unchanged, with secrets from the environment, and never printed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from penstock.errors import ConfigError
from penstock.short_text import short

OWN: Final = frozenset({"bootstrap.servers", "enable.auto.commit", "enable.auto.offset.store", "transactional.id"})
"""Options that the source and the store set themselves: offsets are committed at checkpoints only."""


def servers(value: Any) -> tuple[str, ...]:
    """Return broker addresses as a tuple; text may hold several, separated by commas. Raises ConfigError."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, Sequence) or not given or not all(isinstance(each, str) and each for each in given):
        raise ConfigError(f"bootstrap_servers={short(value)}: give 'host:port', or a list of these")
    return tuple(each.strip() for each in given)


def check_options(_: object, __: object, value: Any) -> None:
    """Raise ConfigError for malformed or reserved options, without printing their values."""
    if not isinstance(value, Mapping):
        raise ConfigError("options: must be a mapping, as {'security.protocol': 'SASL_SSL'}")
    for name, setting in value.items():
        if not isinstance(name, str):
            raise ConfigError(f"options: {name!r} is not a name of a client option")
        if name in OWN:
            raise ConfigError(f"options: {name!r} is set by penstock; leave it out")
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
    return os.environ[variable]


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
