"""Policies of full edges: equivalent values, words and tables; wrong ones fail at creation."""

import pickle
from typing import get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.builtin.push import PushSource
from penstock.compose.node import Edge
from penstock.compose.policies import POLICIES, PolicyWord, policy_of
from penstock.errors import ConfigError, UnknownOptionError
from penstock.run.edges import full
from penstock.run.edges.edge import LiveEdge
from penstock.run.edges.inbox import Inbox

WORDS = [
    ("block", ps.Block()),
    ("drop_oldest", ps.DropOldest()),
    ("drop_newest", ps.DropNewest()),
    ("latest", ps.Latest()),
    ("sample(10)", ps.Sample(10)),
    ("spill(left over)", ps.Spill("left over")),
    ("spill(left, 20 GiB)", ps.Spill("left", max_bytes=20 * 2**30)),
    ("spill(left, 3 KiB)", ps.Spill("left", max_bytes=3 * 2**10)),
]
POLICY = st.one_of(
    st.sampled_from([ps.Block(), ps.DropOldest(), ps.DropNewest(), ps.Latest()]),
    st.builds(ps.Sample, st.integers(1, 10**9)),
    st.builds(
        ps.Spill,
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda text: text.strip()),
        max_bytes=st.integers(1, 2**50),
    ),
)


@pytest.mark.parametrize(("word", "value"), WORDS)
def test_a_word_and_a_value_are_the_same(word, value):
    """An edge takes the policy as a word or as a value, and the edges are equal."""
    assert ps.edge(when_full=word) == ps.edge(when_full=value)
    assert str(value) == word
    assert pickle.loads(pickle.dumps(value)) == value


@given(POLICY)
def test_the_text_of_a_policy_stands_for_it(policy):
    """`str(policy)` is a text from which an equal policy can be made, whatever its directory is called."""
    assert policy_of(str(policy)) == policy


@given(POLICY)
def test_files_hold_policies(policy):
    """A pipeline written to TOML and to plain data has the same policy when it is read."""
    pipeline = ps.Pipeline(ps.source("files", directory="in") >> ps.edge(when_full=policy) >> ps.store("null"))
    for again in (ps.Pipeline.from_toml(pipeline.to_toml()), ps.Pipeline.from_plain(pipeline.to_plain())):
        assert again == pipeline
        assert again.edges[0][2].when_full == policy


@pytest.mark.parametrize(("word", "value"), WORDS)
def test_files_may_say_words_or_tables(word, value):
    """A file names a policy by a word, or by a table with the name of its class and its options."""
    table = {"type": type(value).__name__}
    table |= {key: getattr(value, key) for key in ("n", "directory", "max_bytes") if hasattr(value, key)}
    for said in (word, table):
        plain = {
            "nodes": [{"name": "a", "source": "files"}, {"name": "b", "store": "null"}],
            "edges": [{"before": "a", "after": "b", "when_full": said}],
        }
        assert ps.Pipeline.from_plain(plain).edges[0][2].when_full == value


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ps.Sample(0), "n=0: must be a whole number of at least 1"),
        (lambda: ps.Sample(True), "n=True"),
        (lambda: ps.Sample(2.5), "n=2.5"),
        (lambda: ps.Spill(""), "directory='': must be the path of a directory"),
        (lambda: ps.Spill(7), "directory=7"),
        (lambda: ps.Spill("d", max_bytes=0), "max_bytes=0"),
        (lambda: ps.edge(when_full="drop_odlest"), "did you mean 'drop_oldest'"),
        (lambda: ps.edge(when_full="sample"), "sample"),
        (lambda: ps.edge(when_full="sample(x)"), "n='x'"),
        (lambda: ps.edge(when_full="sample(0)"), "n=0"),
        (lambda: ps.edge(when_full="block(3)"), "block takes no argument"),
        (lambda: ps.edge(when_full="spill(d, 20 GB)"), "the size must be a whole number"),
        (lambda: ps.edge(when_full="spill()"), "directory=''"),
        (lambda: ps.edge(when_full=ps.Sample), "is a class"),
        (lambda: ps.edge(when_full=None), "when_full=None"),
        (lambda: ps.edge(when_full=3), "when_full=3"),
    ],
)
def test_a_wrong_policy_fails_when_it_is_made(make, said):
    """An invalid policy raises ConfigError at once, with the value and what it must be."""
    with pytest.raises(ConfigError) as caught:
        make()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"type": "Sample", "n": 0}, r"\$\.edges\[0\]\.when_full: .*n=0"),
        ({"type": "Spill", "directory": "d", "max_byte": 3}, "did you mean max_bytes"),
        ("sampel(3)", "did you mean 'sample'"),
        ({"type": "Smaple", "n": 3}, r"\$\.edges\[0\]\.when_full: .*'Smaple'; did you mean 'Sample'"),
        ({"type": "spill", "directory": "d"}, "did you mean 'Spill'"),
    ],
)
def test_a_wrong_policy_in_a_file_is_named_with_its_path(said, problem):
    """A file with a wrong policy is rejected, with the path of the key."""
    plain = {
        "nodes": [{"name": "a", "source": "files"}, {"name": "b", "store": "null"}],
        "edges": [{"before": "a", "after": "b", "when_full": said}],
    }
    with pytest.raises(ConfigError, match=problem):
        ps.Pipeline.from_plain(plain)


def test_every_policy_has_its_admission():
    """A run applies each policy."""
    assert set(full._ADMISSIONS) == set(POLICIES)


def test_editors_complete_the_words_of_policies_without_options():
    """The words that the signature of `ps.edge` lists are those of the policies that take no argument."""
    assert list(get_args(PolicyWord)) == [one.word for one in POLICIES if not attrs.fields(one)]


def test_a_live_edge_takes_values():
    """A policy given as a value acts like its word: only the newest record waits."""
    edge = LiveEdge(Inbox(), "a >> b", Edge(capacity=2, when_full=ps.DropOldest()))
    edge.put(0, [ps.Record(data=b"", seq=seq) for seq in range(5)])
    assert (edge.waiting, edge.dropped.total()) == (2, 3)


def test_what_others_put_into_takes_policies_too():
    """`PushSource` and `DataHandler` accept the policies that they support as values, and reject the others."""
    source = PushSource(capacity=2, when_full=ps.DropOldest(), channel="a")
    assert source.when_full == "drop_oldest"
    assert source == PushSource(capacity=2, when_full="drop_oldest", channel="a")
    with ps.DataHandler(ps.store("memory"), when_full=ps.DropNewest()) as handler:
        assert handler.put({"t": 1}, 1)
    for wrong in (ps.Latest(), ps.DropOldest, "latest"):
        with pytest.raises(ConfigError, match="when_full"):
            ps.DataHandler(ps.store("memory"), when_full=wrong)


@pytest.mark.parametrize(
    ("make", "near"),
    [
        (lambda: ps.edge(capcity=3), "capacity"),
        (lambda: ps.Node(role="store", use="null", wrokers=3), "workers"),
        (lambda: ps.Pipeline(ps.source([1]) >> ps.store("null")).run(chekc=True), "check"),
        (lambda: ps.Pipeline(ps.source([1]) >> ps.store("null")).collect(limt=3), "limit"),
        (lambda: ps.DataHandler(ps.store("memory"), capcity=3), "capacity"),
        (lambda: ps.Edge(when_ful="block"), "when_full"),
        (lambda: ps.Retry(time=3), "times"),
        (lambda: ps.Spill("d", max_byte=3), "max_bytes"),
        (lambda: ps.Pipeline(ps.source([1]) >> ps.store("null"), chekpoint_every_s=1), "checkpoint_every_s"),
    ],
)
def test_a_misspelled_option_is_named_with_the_nearest_one(make, near):
    """A keyword that does not exist raises an error that is a ConfigError and a TypeError, and names the nearest."""
    with pytest.raises(UnknownOptionError, match=f"did you mean '{near}'"):
        make()
    with pytest.raises(TypeError):
        make()
