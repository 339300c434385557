"""Composing: nodes joined by >> are data that can be compared, written, read back and rejected."""

from __future__ import annotations

import pickle
import re
import threading
from functools import partial

import pytest

import penstock as ps
from penstock.builtin.memory import MemoryStore, NullStore
from penstock.errors import ConfigError, UnknownComponentError, WiringError


def double(record):
    return record.replace(data=record.data * 2)


def tagged(record, tag):
    return record.replace(metadata={"tag": tag})


def test_nodes_get_names_of_their_components_and_numbers_where_two_are_alike():
    """Every node has a unique name, derived from its component unless the user sets one."""
    source = ps.source([1])
    pipeline = ps.Pipeline(source >> double >> ps.store("null"), source >> ps.store("null", name="second"))
    assert [node.name for node in pipeline.nodes] == ["list", "double", "null", "second"]
    assert [edge[:2] for edge in pipeline.edges] == [("list", "double"), ("double", "null"), ("list", "second")]


def test_two_nodes_of_one_name_are_refused():
    """A name that the user sets twice is an error that names it."""
    with pytest.raises(WiringError, match="two nodes are called 'x'"):
        ps.Pipeline(ps.source([1], name="x") >> ps.store("null", name="x"))


def test_by_name_and_by_object_are_the_same():
    """A component named with settings equals the component itself."""
    by_name = ps.Pipeline(ps.source("iterable", items=[1, 2]) >> ps.store("memory", capacity=3))
    from penstock.builtin.iterable import IterableSource

    by_object = ps.Pipeline(
        ps.source(IterableSource(items=[1, 2]), name="iterable") >> ps.store(MemoryStore(capacity=3), name="memory")
    )
    assert by_name == by_object


@pytest.mark.parametrize("suffix", [".toml", ".yaml", ".json"])
def test_a_pipeline_survives_its_file(tmp_path, suffix):
    """A pipeline written to a file and read back is equal, with all its options."""
    source = ps.source("iterable", items=[1, 2, 3], name="numbers", expect_every_s=2.5)
    twice = source >> ps.processor("collections:OrderedDict", name="p", workers=3, ordered=False, on_error="skip")
    pipeline = ps.Pipeline(
        twice >> ps.store("memory", capacity=7, retry=ps.Retry(times=5, wait_max_s=1.5)),
        source >> ps.edge(capacity=1, when_full="drop_oldest") >> ps.store("null"),
        name="all options",
        checkpoint_every_s=0.5,
        dead_letters="elsewhere",
    )
    path = tmp_path / f"pipeline{suffix}"
    pipeline.write(path)
    again = ps.Pipeline.read(path)
    assert again == pipeline
    assert again.to_plain() == pipeline.to_plain()
    assert ps.Pipeline.from_toml(pipeline.to_toml()) == pipeline


def test_a_pipeline_is_pickled_as_data():
    """A pickled pipeline is equal, and one that holds a lambda is rejected with the name of the node."""
    pipeline = ps.Pipeline(ps.source("iterable", items=[1]) >> ps.store("null"))
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline
    with pytest.raises(WiringError, match="'lambda' cannot be written to a file or sent"):
        pickle.dumps(ps.Pipeline(ps.source("iterable", items=[1]) >> (lambda record: None)))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ps.Pipeline(ps.store("null")), WiringError, "'null': this store has no input"),
        (lambda: ps.Pipeline(ps.source([1])), WiringError, "nothing takes the records of this source"),
        (lambda: ps.Pipeline(), WiringError, "the pipeline is empty"),
        (lambda: ps.Pipeline(ps.source([1]) >> ps.store("nul")), UnknownComponentError, "'nul'.*null"),
        (
            lambda: ps.Pipeline(ps.source([1]) >> ps.store("nul", name="archive")),
            UnknownComponentError,
            "node 'archive': there is no store 'nul'",
        ),
        (
            lambda: ps.Pipeline(ps.source([1]) >> ps.store("memory", capasity=1)),
            ConfigError,
            r"node 'memory' \(penstock .*capasity.*capacity",
        ),
        (
            lambda: ps.Pipeline(ps.source([1]) >> ps.store("memory", capacity="many")),
            ConfigError,
            r"node 'memory' .*\$\.capacity.*'many'",
        ),
        (
            lambda: ps.Pipeline(
                ps.source([1])
                >> ps.processor(partial(tagged, tag=threading.Lock()), place="process")
                >> ps.store("null")
            ),
            WiringError,
            "node 'tagged'.*attribute 'tag': cannot be sent to another process: cannot pickle",
        ),
        (lambda: ps.Pipeline(ps.source([1]) >> ps.store(object())), WiringError, "it has no open, write, sync, close"),
        (lambda: ps.Pipeline(ps.source(7) >> double), WiringError, "7 is not a source"),
    ],
)
def test_what_is_wrong_is_found_before_anything_opens(make, error, words):
    """Each mistake raises a specific error with node, value and remedy, and nothing has been opened."""
    with pytest.raises(error, match=f"(?s){words}"):
        make().check()


def test_kinds_that_do_not_fit_are_refused():
    """A source of bytes in front of a processor of arrays is found when the pipeline is checked."""

    class Bytes:
        gives = "bytes"

        def open(self):
            raise AssertionError("opened")

        read = close = open

    class Arrays:
        takes = "array"

        def __call__(self, record):
            return record

    with pytest.raises(WiringError, match=r"gives bytes, but .* takes array: put a decoder"):
        ps.Pipeline(ps.source(Bytes()) >> ps.processor(Arrays())).check()


def test_wrong_ways_to_join_are_refused_at_once():
    """A store in the middle, a source at the end, a loose edge: rejected where they are written."""
    with pytest.raises(WiringError, match="'null' is a store and emits no records"):
        ps.source([1]) >> ps.store("null") >> double
    with pytest.raises(WiringError, match="'list' is a source and takes no records"):
        ps.source([1]) >> ps.source([2])
    with pytest.raises(WiringError, match="ends with edge"):
        ps.Pipeline(ps.source([1]) >> ps.edge(capacity=3))
    with pytest.raises(ConfigError, match=r"when_full='newest': must be one of|when_full='newest': must be block"):
        ps.edge(when_full="newest")


def test_a_loop_is_refused():
    """Nodes that lead back to themselves are named in order."""
    from penstock.compose.node import PLAIN, Flow

    a, b = ps.processor(double, name="a"), ps.processor(double, name="b")
    flow = Flow((a, b), ((a, b, PLAIN), (b, a, PLAIN)), ())
    with pytest.raises(WiringError, match="loop"):
        ps.Pipeline(flow).check()


def test_several_flows_join_at_one_node():
    """A list of flows before >> is a fan-in, a list behind it a fan-out."""
    store = ps.store("null")
    pipeline = ps.Pipeline([ps.source([1]), ps.source((2,))] >> ps.processor(double) >> [store, ps.store("memory")])
    assert [edge[:2] for edge in pipeline.edges] == [
        ("list", "double"),
        ("tuple", "double"),
        ("double", "null"),
        ("double", "memory"),
    ]


def test_drawings_name_every_node_and_edge():
    """Both drawings show the nodes and the policy of an edge, and text from users cannot break them."""
    source = ps.source([1], name='a "quoted" <name>')
    pipeline = ps.Pipeline(source >> ps.edge(capacity=2, when_full="latest") >> ps.store(NullStore(), name="end"))
    mermaid, svg = pipeline.to_mermaid(), pipeline.to_svg()
    assert "2 records, latest" in mermaid
    assert "2 records, latest" in svg
    assert "&lt;name&gt;" in svg
    assert not re.search(r"<name>", mermaid)
    import xml.etree.ElementTree as ElementTree

    assert len(ElementTree.fromstring(svg).findall("{http://www.w3.org/2000/svg}rect")) == 3


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"options": {"sasl.password": "word-of-secret"}}, r"options\.sasl\.password"),
        ({"options": {"sasl.jaas.config": "word-of-secret"}}, r"options\.sasl\.jaas\.config"),
        ({"password": "word-of-secret"}, "password"),
        ({"servers": [{"uri": "mongodb://me:word-of-secret@host/db"}]}, r"servers\[0\]\.uri"),
    ],
)
def test_passwords_are_not_written_to_files(tmp_path, settings, where):
    """A pipeline that holds a password as text is not written to a file; the error names the place only."""
    flow = ps.source("kafka", name="cameras", **settings) >> ps.store("null", name="out")
    pipeline = ps.Pipeline(flow)
    for write in (
        pipeline.to_toml,
        lambda: pipeline.write(tmp_path / "p.yaml"),
        lambda: pipeline.write(tmp_path / "p.json"),
    ):
        with pytest.raises(ps.errors.ConfigError, match=f"'cameras'.*{where}.*env") as refused:
            write()
        assert "word-of-secret" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    assert "word-of-secret" not in repr(pipeline) + repr(flow) + pipeline.to_mermaid()


def test_names_of_variables_are_written_to_files():
    """An environment variable in place of a password is written and read back."""
    flow = ps.source("kafka", options={"sasl.password": {"env": "KAFKA_PASSWORD"}}) >> ps.store("null")
    pipeline = ps.Pipeline(flow)
    assert ps.Pipeline.from_toml(pipeline.to_toml()) == pipeline
