"""Configuration: attrs classes and dataclasses from and to plain data, and plain data from and to files."""

from penstock.config.files import format_config, parse_config, read_config, write_config
from penstock.config.plain import to_plain
from penstock.config.structure import field_problems, from_plain
from penstock.config.yaml_config import YamlConfig

__all__ = [
    "YamlConfig",
    "field_problems",
    "format_config",
    "from_plain",
    "parse_config",
    "read_config",
    "to_plain",
    "write_config",
]
