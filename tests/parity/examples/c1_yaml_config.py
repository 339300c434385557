"""ataraxis-data-structures, YamlConfig: a dataclass that inherits it is written to a file and read back."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from penstock import YamlConfig


@dataclass
class MyConfig(YamlConfig):
    """Two settings."""

    integer: int = 0
    string: str = "random"


config = MyConfig(integer=123, string="hello")

tempdir = tempfile.TemporaryDirectory()
out_path = Path(tempdir.name).joinpath("my_config.yaml")
config.to_yaml(file_path=out_path)

assert out_path.exists()

loaded_config = MyConfig.from_yaml(file_path=out_path)

assert loaded_config.integer == config.integer
assert loaded_config.string == config.string
tempdir.cleanup()
