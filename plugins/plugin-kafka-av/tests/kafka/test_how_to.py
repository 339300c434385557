"""The guide for users of comux is right: its Python runs against a real broker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import penstock as ps

HOW_TO = Path(__file__).parents[4] / "docs" / "how-to"


def blocks(page, language):
    """The blocks of a language on a page."""
    text = (HOW_TO / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_from_comux(broker, tmp_path):
    """The Python blocks run one after the other as they stand, in an empty directory, without a warning."""
    for topic in ("raw_north", "raw_south", "stream_north", "stream_south", "config"):
        broker.topic(topic)
    script = tmp_path / "guide.py"
    script.write_text("\n".join(blocks("from-comux.md", "python")), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name], cwd=tmp_path, capture_output=True, text=True, timeout=100,
        env={**os.environ, "KAFKA": broker.address}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_several_machines(monkeypatch):
    """The pipeline of the page is one: with a processor that exists, it is read and can be checked."""
    [toml] = blocks("several-machines.md", "toml")
    text = toml.replace('processor = "my_lab.detect:Detector"', 'processor = "background-difference"')
    assert tomllib.loads(text)["nodes"][0]["settings"]["options"]["sasl.password"] == {"env": "KAFKA_PASSWORD"}
    ps.Pipeline.from_toml(text).check()
