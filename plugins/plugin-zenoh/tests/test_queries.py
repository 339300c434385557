"""A run that is controlled by zenoh queries."""

from __future__ import annotations

import json

import pytest
import zenoh

import penstock as ps
from penstock_zenoh.queries import control
from penstock_zenoh.session import Network


@pytest.fixture
def asked(endpoint):
    """A run with a control channel, and a plain zenoh session that asks it."""

    def double(run, argument):
        return argument * 2

    flow = control("lab/control", actions={"double": double}, given=("pause", "resume", "stats"), listen=[endpoint])
    numbers = ps.source(iter(int, 1), name="numbers") >> ps.store("null", name="kept")
    with ps.Pipeline(flow, numbers).start() as run:
        session = Network(connect=(endpoint,)).open()

        def ask(payload=None):
            (reply,) = session.get("lab/control", payload=payload, timeout=20)
            assert reply.ok.encoding == zenoh.Encoding.APPLICATION_JSON
            return json.loads(reply.ok.payload.to_bytes())

        yield ask
        session.close()
    assert run.report.balanced


def test_actions_are_called_and_answered(asked):
    """A query calls an action, penstock's or the user's, and the reply has its result."""
    answer = asked(json.dumps({"action": "double", "argument": 21}))
    assert answer == {"action": "double", "ok": True, "result": 42}
    assert asked(json.dumps({"action": "pause", "argument": "numbers"}))["ok"]
    assert asked(json.dumps({"action": "resume", "argument": "numbers"}))["ok"]


def test_figures_are_read_the_same_way(asked):
    """A query without a payload gets the account of the run."""
    answer = asked()
    assert answer["ok"], answer
    assert "kept" in json.dumps(answer["result"])


@pytest.mark.parametrize("payload", ['{"action": "delete", "argument": "kept"}', "no JSON", "{}", "[]", "\x00"])
def test_what_is_not_allowed_is_answered(payload, asked):
    """An action that is not listed, and garbage, are answered with an error, and the run continues."""
    answer = asked(payload)
    assert not answer["ok"]
    assert answer["error"]
    assert asked()["ok"]
