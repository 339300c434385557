"""`penstock scout` and `penstock doctor zenoh`, against real HEROs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from penstock_zenoh import wire
from penstock_zenoh.command import doctor, scout
from penstock_zenoh.diagnosis import SENDER, advice
from penstock_zenoh.hero.cbor_out import encode
from penstock_zenoh.session import Network
from penstock_zenoh.source import ZenohSource


def run(command, *arguments: str):
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


@pytest.fixture
def camera(heros, endpoint):
    return heros("camera", listen=[endpoint], name="lab/cam2")


def test_a7_scout_lists_heros_events_ends_and_nodes(camera, endpoint, other_endpoint, opened):
    """A real HERO is listed with its class and events, and penstock's own ends with what they subscribe to."""
    opened(ZenohSource(key="lab/**", listen=[other_endpoint]))
    found = json.loads(run(scout, "--connect", endpoint, "--connect", other_endpoint, "--json").output)
    (hero,) = found["heros"]
    assert (hero["name"], hero["realm"]) == ("lab/cam2", "heros")
    assert "Camera" in hero["class"]
    assert {event["event"] for event in hero["events"]} >= {"acquisition_data", "acquisition_started"}
    assert len(found["nodes"]["peers"]) >= 1
    assert [end["key"] for end in found["penstock"]] == ["lab/**"]


def test_a7_scout_counts_events(camera, endpoint):
    """Events that are sent meanwhile are counted, and the table names them."""
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock", "scout", "--connect", endpoint, "--seconds", "3"],
        stdout=subprocess.PIPE,
        text=True,
    )
    camera.do("wait", event="acquisition_data")
    camera.do("run", frames=30)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 0
    assert "HERO 'lab/cam2' in realm 'heros'" in output
    assert "event 'acquisition_data': 0.0/s" not in output


def test_a7_doctor_reports_the_loss_and_what_to_paste(camera, endpoint):
    """Gaps are counted, the exit status says so, and the lines to paste are valid Python."""
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock", "doctor", "zenoh", "--connect", endpoint, "--seconds", "3"],
        stdout=subprocess.PIPE,
        text=True,
    )
    camera.do("wait", event="acquisition_data")
    camera.do("run", frames=10, skip=[4, 5])
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 1
    assert "HERO 'lab/cam2', event 'acquisition_data': 2 of 10 lost (20.0 %)" in output
    assert SENDER in output
    compile(SENDER, "advice", "exec")


def test_a7_the_lines_to_paste_are_taken_by_heros(heros_python):
    """The lines of `doctor` work unchanged in the program of a camera."""
    code = f"{SENDER}\nimport os, sys\nsys.stdout.write('taken'); sys.stdout.flush(); os._exit(0)"
    done = subprocess.run([heros_python, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "taken", done.stderr


def test_nobody_there(endpoint):
    """An empty network is reported; an endpoint without an answer is an error that names it."""
    assert "no HERO" in run(scout, "--listen", endpoint, "--seconds", "0.2").output
    assert "see `penstock scout`" in run(doctor, "zenoh", "--listen", endpoint, "--seconds", "0.2").output
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "scout", "--connect", "tcp/127.0.0.1:1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "no answer at tcp/127.0.0.1:1" in done.stderr


def test_a7_names_from_the_network_print_no_control_characters(endpoint):
    """Names from the network, of a HERO's class or an end's process, print no control characters."""
    session = Network(listen=(endpoint,)).open()
    base, evil = "@object/heros/cam", "\x1b[2Jgone\n"

    def answer(query):
        query.reply(str(query.key_expr).removesuffix("/**"), encode({"name": "cam", "class": evil}))

    held = [
        session.declare_queryable(f"{base}/_discover", answer),
        session.liveliness().declare_token(f"{base}/_health"),
        session.liveliness().declare_token(wire.source_key("00ff", wire.SourceCard("lab/**", 8, 1000, evil))),
        session.liveliness().declare_token(wire.source_key("00fe", wire.SourceCard("lab/**", 8, 1000, "process 1"))),
    ]
    output = run(scout, "--connect", endpoint, "--seconds", "0.5").output
    del held
    session.close()
    assert "HERO 'cam'" in output
    assert "gone" in output
    assert "penstock source 'lab/**' (process 1)" in output
    assert output.count("lab/**") == 1
    assert all(line.isprintable() for line in output.splitlines())


def test_an_old_zenoh_is_named():
    """A zenoh that drops under load is named with the command that brings a newer one."""
    said = advice({"seconds": 1, "sequence_key": "frame", "zenoh": "1.9.0", "events": []})
    assert "pip install 'eclipse-zenoh>=1.10'" in said
