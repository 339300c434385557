"""YamlConfig: adds `to_yaml` and `from_yaml` to a class of settings."""

from __future__ import annotations

import logging
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self

from penstock.config.files import read_config, write_config
from penstock.config.plain import to_plain
from penstock.config.reading import ignoring_unknown, reading
from penstock.config.same import difference
from penstock.config.structure import from_plain
from penstock.errors import ConfigError

_log = logging.getLogger("penstock.config")


class YamlConfig:
    """Inherit this in an attrs class or a dataclass to write it to a YAML file and read it back.

    Both accept the paths that `write_config` supports, so `.toml` and `.json` work too.
    """

    def to_yaml(self, file_path: str | PathLike[str]) -> None:
        """Write the settings to a file atomically; replaces an existing file, and creates missing directories.

        Before it is written, its text is read back: the object made from it must equal this one, by value and
        type, or nothing is written. So validators and `__post_init__` are called once more.

        Raises:
            ConfigError: a value cannot be written as plain data, or would be read back differently; the message
                begins with the file and the path of the value.
            OSError: the file cannot be written.
        """
        path = Path(file_path)
        write_config(path, to_plain(self), check=lambda back: self._check(back, path))

    def _check(self, plain: dict[str, Any], path: Path) -> None:
        """Raise ConfigError unless the data read back yield an equal object; then make its directory."""
        try:
            with reading(path.suffix.lower()):
                said = difference(self, from_plain(type(self), plain))
        except Exception as error:  # classes, validators and comparisons may raise anything
            raise ConfigError(f"{path}: would not be read back, so nothing was written: {error}") from error
        if said:
            advice = "annotate the field with its type, or change the value"
            raise ConfigError(f"{path}: {said}, so nothing was written; {advice}")
        path.parent.mkdir(parents=True, exist_ok=True)

    @classmethod
    def from_yaml(cls, file_path: str | PathLike[str], *, unknown: Literal["error", "ignore"] = "error") -> Self:
        """Make an object from a file; missing fields get their defaults.

        Args:
            file_path: The file.
            unknown: The action for unknown keys: "error", or "ignore", for a file of an older version;
                then a warning of the logger `penstock.config` names them.

        Raises:
            ConfigError: the file does not fit the class; the message begins with the file and the path in it.
            OSError: the file cannot be read.
        """
        if unknown not in ("error", "ignore"):
            raise ConfigError(f"unknown={unknown!r}: must be 'error' or 'ignore'")
        path = Path(file_path)
        plain = read_config(path)
        try:
            with reading(path.suffix.lower()):
                if unknown == "error":
                    return from_plain(cls, plain)
                with ignoring_unknown() as ignored:
                    made: Self = from_plain(cls, plain)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error.__cause__
        if ignored:
            _log.warning("%s: keys that are unknown are ignored: %s", path, ", ".join(dict.fromkeys(ignored)))
        return made
