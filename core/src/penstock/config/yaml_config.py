"""YamlConfig: give a class of settings `to_yaml` and `from_yaml`."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Self

from penstock.config.files import read_config, write_config
from penstock.config.plain import to_plain
from penstock.config.structure import from_plain
from penstock.errors import ConfigError


class YamlConfig:
    """Inherit this in an attrs class or a dataclass to write it to a YAML file and read it back.

    Both take the paths that `write_config` knows, so `.toml` and `.json` work too.
    """

    def to_yaml(self, file_path: str | PathLike[str]) -> None:
        """Write the settings to a file, whole or not at all; one that is there is replaced.

        Raises:
            ConfigError: a value cannot be written as plain data.
            OSError: the file cannot be written.
        """
        write_config(file_path, to_plain(self))

    @classmethod
    def from_yaml(cls, file_path: str | PathLike[str]) -> Self:
        """Make an object from a file: what it leaves out has its default, and nothing else may be in it.

        Raises:
            ConfigError: the file is no such configuration; the message begins with the file and the path in it.
            OSError: the file cannot be read.
        """
        plain = read_config(file_path)
        try:
            return from_plain(cls, plain)
        except ConfigError as error:
            raise ConfigError(f"{Path(file_path)}: {error}") from error.__cause__
