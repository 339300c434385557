"""The guide for users of comux is correct: its Python runs against a real broker."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import yaml

import penstock as ps

HOW_TO = Path(__file__).parents[4] / "docs" / "how-to"


def blocks(page, language):
    """Return the blocks of a language on a page."""
    text = (HOW_TO / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_from_comux(broker, tmp_path):
    """The Python blocks run in order and unchanged, in an empty directory, without a warning."""
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
    """The pipeline of the page is valid: with an existing processor, it can be read and checked."""
    [toml] = blocks("several-machines.md", "toml")
    text = toml.replace('processor = "my_lab.detect:Detector"', 'processor = "background-difference"')
    nodes = {node["name"]: node for node in tomllib.loads(text)["nodes"]}
    for name in ("cameras", "results"):
        assert nodes[name]["settings"]["options"]["sasl.password"] == {"env": "KAFKA_PASSWORD"}
    assert nodes["decode"]["workers"] == 10
    ps.Pipeline.from_toml(text).check()


def test_several_machines_as_units_and_deployments():
    """The systemd unit and the Kubernetes Deployment run the pipeline, drain on SIGTERM, and bring the secret along."""
    [unit] = blocks("several-machines.md", "ini")
    service = configparser.ConfigParser()
    service.optionxform = str
    service.read_string(unit)
    assert service["Service"]["ExecStart"].endswith("penstock run /etc/vision.toml")
    assert service["Service"]["KillSignal"] == "SIGTERM"
    [text] = blocks("several-machines.md", "yaml")
    deployment = yaml.safe_load(text)
    assert deployment["kind"] == "Deployment"
    template = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    [container] = template["spec"]["containers"]
    assert container["command"] == ["penstock", "run", "/etc/vision.toml"]
    assert container["envFrom"] == [{"secretRef": {"name": "kafka"}}]
    assert template["spec"]["terminationGracePeriodSeconds"] == int(service["Service"]["TimeoutStopSec"])


def test_durable_links(broker, tmp_path, read):
    """The two files of the page run against a broker, and the frames of the cameras arrive after the link."""
    before, behind = (
        ps.Pipeline.from_toml(text.replace("kafka-1:9092", broker.address))
        for text in blocks("durable-links.md", "toml")
    )
    broker.topic("results")
    broker.produce(broker.topic("raw_link-camera"), [b"1", b"2"])
    with before.start() as first, behind.start() as second:
        ends = time.monotonic() + 60
        while second.stats().node("kept").stored < 2:
            assert time.monotonic() < ends
            second.wait(0.1)
    assert first.report.ok
    assert second.report.ok
