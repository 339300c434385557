"""YamlConfig: give a class of settings `to_yaml` and `from_yaml`."""

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

    Both take the paths that `write_config` knows, so `.toml` and `.json` work too.
    """

    def to_yaml(self, file_path: str | PathLike[str]) -> None:
        """Write the settings to a file, whole or not at all; one that is there is replaced, directories are made.

        Before the file is there, its text is read back: the object made of it is the same as this one, by value and
        type, or nothing is written. So validators and `__post_init__` are called once more.

        Raises:
            ConfigError: a value cannot be written as plain data, or would be read back as something else; the message
                begins with the file and the path of the value.
            OSError: the file cannot be written.
        """
        path = Path(file_path)
        write_config(path, to_plain(self), check=lambda back: self._check(back, path))

    def _check(self, plain: dict[str, Any], path: Path) -> None:
        """Raise ConfigError unless what was read back makes the same object; then make its directory."""
        try:
            with reading(path.suffix.lower()):
                said = difference(self, from_plain(type(self), plain))
        except Exception as error:  # whatever the classes, their validators and comparisons raise
            raise ConfigError(f"{path}: would not be read back, so nothing was written: {error}") from error
        if said:
            advice = "annotate the field with its type, or change the value"
            raise ConfigError(f"{path}: {said}, so nothing was written; {advice}")
        path.parent.mkdir(parents=True, exist_ok=True)

    @classmethod
    def from_yaml(cls, file_path: str | PathLike[str], *, unknown: Literal["error", "ignore"] = "error") -> Self:
        """Make an object from a file: what it leaves out has its default.

        Args:
            file_path: The file.
            unknown: What to do about keys that no field has: "error", or "ignore", for a file of an older version;
                a line in the log (`penstock.config`, WARNING) names them then.

        Raises:
            ConfigError: the file is no such configuration; the message begins with the file and the path in it.
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
