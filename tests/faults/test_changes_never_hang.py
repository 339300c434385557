"""Changes of a run that are refused, fail midway, or ask for the end of who asks: the run goes on and ends."""

from __future__ import annotations

import contextlib
import threading

import attrs
import pytest
from tests.faults import any_parts

import penstock as ps
from penstock.errors import EndOfSource, RunError
from penstock.report.account import Account, EdgeAccount, NodeAccount
from penstock.testing import no_leaks
from penstock.testing.any_errors import ANY_ERROR


@pytest.fixture(autouse=True)
def _clean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with no_leaks():
        yield


@attrs.define(kw_only=True, slots=False, eq=False)
class Gated:
    """Gives numbers until it is told to end."""

    enough = attrs.field(factory=threading.Event)
    some = attrs.field(factory=threading.Event)
    next = 0

    def open(self):
        pass

    def read(self, max_records, timeout_s):
        if self.enough.wait(0.001):
            raise EndOfSource("enough")
        self.next += 1
        if self.next > 20:
            self.some.set()
        return [ps.Record(self.next - 1, seq=self.next - 1)]

    def close(self):
        pass


class Same:
    """Gives a component as it is to each who copies it."""

    def __init__(self, inner):
        self.inner = inner

    def open(self):
        self.inner.open()

    def read(self, max_records, timeout_s):
        return self.inner.read(max_records, timeout_s)

    def close(self):
        self.inner.close()


def whole(run, camera):
    """Let the run end by itself; return its report."""
    camera.enough.set()
    report = run.wait(30)
    assert report is not None, "the run does not end"
    return report


def test_the_last_consumer_is_not_removed():
    """A store that alone takes the records of a camera is not removed without it: its records would end nowhere."""
    camera = Gated()
    source = ps.source(Same(camera), name="camera")
    run = ps.Pipeline(source >> ps.edge(capacity=9) >> ps.store("memory", name="archive")).start()
    assert camera.some.wait(10)
    with pytest.raises(RunError, match=r"nothing else takes the records of 'camera'.*replace it"):
        run.remove("archive")
    run.add(source >> ps.edge(capacity=9) >> ps.store("memory", name="second"))
    run.remove("archive")  # now another takes them
    with pytest.raises(RunError, match="nothing else takes the records of 'camera'"):
        run.remove("second")
    run.add(source >> ps.edge(capacity=9) >> ps.processor(lambda record: None, name="show"))
    with pytest.raises(RunError, match="nothing else takes the records of 'camera'"):
        run.remove("second", "show")
    report = whole(run, camera)
    assert report.ok, report
    account = report.account
    assert account.node("archive").stored + account.node("second").stored >= account.node("camera").received


def test_the_counters_do_not_add_up_over_records_that_went_to_nobody():
    """Records that a source gave and no edge took are an imbalance."""
    node = {"component": "c", "rate": 0.0, "data_bytes": 0, "retries": 0, "restarts": 0, "lag": None, "last_error": ""}
    known = {field.name for field in attrs.fields(NodeAccount)}
    camera = NodeAccount(node="cam", role="source", received=9, **{k: v for k, v in node.items() if k in known})
    assert (
        "emitted 9, of which some reached no node" in Account(nodes=[camera], edges=[], elapsed_s=1.0).imbalances()[0]
    )
    edge = EdgeAccount(edge="cam >> a", before="cam", after="a", put=7, taken=7, partial=True, when_full="block")
    assert "reached no node" in Account(nodes=[camera], edges=[edge], elapsed_s=1.0).imbalances()[0]


REFUSED = {
    "remove one that is not there": lambda run: run.remove("nosuch"),
    "remove one that is fused": lambda run: run.remove("step"),
    "remove the last consumer": lambda run: run.remove("archive"),
    "add one that cannot be opened": lambda run: run.add(
        ps.source(any_parts.Source(call="open", kind="SystemExit"), name="new") >> run.node("archive")
    ),
    "add a store that cannot be opened": lambda run: run.add(
        ps.source([1], name="new") >> ps.store(any_parts.Store(call="open", kind="StopIteration"), name="newstore")
    ),
    "replace by one that cannot be opened": lambda run: run.replace(
        "step", ps.processor(any_parts.Processor(call="open", kind="KeyboardInterrupt"))
    ),
    "replace a source by one that cannot be opened": lambda run: run.replace(
        "camera", ps.source(any_parts.Source(call="open", kind="RunAborted"))
    ),
    "replace a store by one that cannot be opened": lambda run: run.replace(
        "archive", ps.store(any_parts.Store(call="open", kind="StopIteration"))
    ),
}


@pytest.mark.parametrize("change", REFUSED)
def test_a_change_that_is_refused_leaves_a_run_that_ends(change):
    """A refused or failing change is a RunError, costs no record, and the run still ends when its sources do."""
    camera = Gated()
    flow = ps.source(Same(camera), name="camera") >> ps.processor(lambda record: record, name="step")
    run = ps.Pipeline(flow >> ps.edge(capacity=9) >> ps.store("memory", name="archive")).start()
    assert camera.some.wait(10)
    with pytest.raises(RunError):
        REFUSED[change](run)
    report = whole(run, camera)
    assert report.ok, report
    assert report.stored == camera.next


@pytest.mark.parametrize("kind", ANY_ERROR)
@pytest.mark.parametrize(
    ("role", "call"), [("processor", "flush"), ("processor", "close"), ("store", "sync"), ("store", "close")]
)
def test_a_replacement_over_an_old_one_that_raises_ends_in_time(role, call, kind):
    """What the old component raises while it is replaced hangs nobody: it works on, or the new one takes over."""
    camera = Gated()
    old = getattr(any_parts, role.capitalize())(call=call, kind=kind)
    nodes = {
        "processor": ps.processor(lambda record: record, name="processor"),
        "store": ps.store("null", name="store"),
    }
    nodes[role] = getattr(ps, role)(old, name=role, retry=ps.Retry(times=1))
    new = ps.processor(lambda record: record) if role == "processor" else ps.store("null")
    run = ps.Pipeline(ps.source(Same(camera), name="camera") >> nodes["processor"] >> nodes["store"]).start()
    assert camera.some.wait(10)
    with contextlib.nullcontext() if call != "sync" else pytest.raises(RunError):
        run.replace(role, new)
    report = whole(run, camera)
    assert report.stored == camera.next
    assert report.errors
    assert not report.aborted


@attrs.define(kw_only=True, slots=False, eq=False)
class Messages:
    """Gives actions, and then ends when it is told to."""

    actions = attrs.field()
    enough = attrs.field(factory=threading.Event)

    def open(self):
        self.left = list(self.actions)

    def read(self, max_records, timeout_s):
        if self.left:
            return [ps.Record(self.left.pop(0))]
        if self.enough.wait(timeout_s):
            raise EndOfSource("enough")
        return ()

    def close(self):
        pass


def controlled(*messages, actions=None):
    """Run a camera with a control channel that gets these messages; return the answers and the report."""
    camera, answers, came = Gated(), [], threading.Event()
    channel = Messages(actions=messages)

    def listen(record):
        answers.append(record.data)
        if len(answers) == len(messages):
            came.set()

    control = ps.control(Same(channel), actions=actions or {}, name="control") >> ps.processor(listen, name="listen")
    flow = ps.source(Same(camera), name="camera") >> ps.edge(capacity=9) >> ps.store("memory", name="archive")
    run = ps.Pipeline(flow, control).start()
    try:
        assert came.wait(20), "no answer"
    except BaseException:
        run.abort()
        raise
    channel.enough.set()
    report = whole(run, camera)
    assert report.stored == camera.next
    return answers, report


@pytest.mark.parametrize("name", ["control", "control-actions"])
def test_a_message_cannot_delete_its_own_channel(name):
    """The channel that would wait for its own end says so, and the run goes on."""
    answers, report = controlled({"action": "delete", "argument": [name, "listen"] if name != "control" else name})
    assert not answers[0]["ok"]
    assert "control" in answers[0]["error"] or "own end" in answers[0]["error"]
    assert report.ok, report


def test_a_message_deletes_its_channel_with_all_that_is_behind():
    """Named with what stands behind it, the channel is refused for waiting for itself."""
    answers, report = controlled({"action": "delete", "argument": ["control", "control-actions", "listen"]})
    assert "would wait for its own end" in answers[0]["error"]
    assert report.ok, report


@pytest.mark.parametrize("call", ["stop", "wait", "replace"])
def test_an_action_that_would_wait_for_itself_is_refused(call):
    """An action of the user's that stops the run, waits for it, or replaces the channel is answered with an error."""
    calls = {
        "stop": lambda run, _: run.stop(),
        "wait": lambda run, _: run.wait(),
        "replace": lambda run, _: run.replace("control-actions", ps.processor(lambda record: None)),
    }
    answers, report = controlled({"action": call}, actions={call: calls[call]})
    assert "wait for it" in answers[0]["error"]
    assert report.ok, report


@pytest.mark.parametrize("kind", ANY_ERROR)
def test_an_action_may_raise_anything(kind):
    """Whatever an action raises is answered, and the next message is carried out."""

    def fail(run, argument):
        raise ANY_ERROR[kind]()

    answers, report = controlled({"action": "fail"}, {"action": "pause", "argument": "nosuch"}, actions={"fail": fail})
    assert [answer["ok"] for answer in answers] == [False, False]
    assert type(ANY_ERROR[kind]()).__name__ in answers[0]["error"]
    assert report.ok, report


def test_a_change_that_waits_for_one_that_waits_for_it_gives_up():
    """A control message that changes the run while its channel is being removed is answered, and both end."""
    camera, begun, go_on, answers = Gated(), threading.Event(), threading.Event(), []

    def add(run, _):
        begun.set()
        go_on.wait(20)
        return run.add(ps.source([1], name="late") >> run.node("archive"))

    channel = Messages(actions=[{"action": "add"}])
    control = ps.control(Same(channel), actions={"add": add}, name="control") >> ps.processor(
        lambda record: answers.append(record.data), name="listen"
    )
    flow = ps.source(Same(camera), name="camera") >> ps.edge(capacity=9) >> ps.store("memory", name="archive")
    run = ps.Pipeline(flow, control).start()
    assert begun.wait(20)
    remover = threading.Thread(target=run.remove, args=("control", "listen"))
    remover.start()
    while run._plan.sources["control"].thread.is_alive() and not run._plan.sources["control"]._stopping:
        go_on.wait(0.01)
    go_on.set()
    remover.join(20)
    assert not remover.is_alive()
    report = whole(run, camera)
    assert [answer["ok"] for answer in answers] == [False]
    assert report.ok, report
