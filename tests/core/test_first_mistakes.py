"""Mistakes of new users are rejected before anything opens, with value and remedy, by an error of penstock."""

from __future__ import annotations

import attrs
import pytest

import penstock as ps
from penstock.builtin.choose import Filter
from penstock.builtin.gather import Align, Batch
from penstock.builtin.memory import MemoryStore
from penstock.builtin.push import PushSource
from penstock.errors import ConfigError, PenstockError, RecordFieldError, WiringError
from penstock.testing.leaks import no_leaks


def pipeline(*, node=None, **options):
    return ps.Pipeline(
        ps.source([1]) >> ps.processor(lambda record: record, **(node or {})) >> ps.store("null"), **options
    )


@pytest.mark.parametrize("value", [5, "", b"name", ["a"], "\ud800"])
@pytest.mark.parametrize("where", ["node", "pipeline"])
def test_a_name_is_a_text(where, value):
    """A name that is not text, or cannot be written, is rejected."""
    with pytest.raises(ConfigError, match="name="):
        pipeline(node={"name": value}) if where == "node" else pipeline(name=value)


@pytest.mark.parametrize("value", [3, "often", True])
def test_a_retry_is_one(value):
    """A number of retries is not a policy; the error shows a valid one."""
    with pytest.raises(ConfigError, match=r"retry=.*Retry\(\.\.\.\)"):
        pipeline(node={"retry": value})


@pytest.mark.parametrize("value", [None, 5, b"dead"])
def test_dead_letters_are_a_directory(value):
    """A directory of dead letters that is not a path is rejected; None does not become a directory of that name."""
    with pytest.raises(ConfigError, match="dead_letters="):
        pipeline(dead_letters=value)


def test_a_name_alone_says_no_role():
    """A text after `>>` is rejected with a remedy."""
    with pytest.raises(WiringError, match=r"ps\.store\('null'\)"):
        ps.source([1]) >> "null"


@pytest.mark.parametrize("channel", [5, b"a", ("a",)])
def test_an_odd_channel_of_an_iterable_is_no_record(channel, tmp_path):
    """A channel that is not text reaches no store."""
    kept = ps.store("memory")
    try:
        report = ps.Pipeline(ps.source([1, 2], channel=channel) >> kept, dead_letters=tmp_path).run()
    except PenstockError:
        return
    assert (report.stored, report.dead_lettered) == (0, 2)


@pytest.mark.parametrize("metadata", [5, "text", [1]])
def test_metadata_of_a_handler_are_a_mapping(metadata, tmp_path, monkeypatch):
    """Metadata that are not a mapping are rejected, and the handler continues."""
    monkeypatch.chdir(tmp_path)
    with no_leaks(), ps.DataHandler("memory") as handler:
        with pytest.raises(RecordFieldError, match="must be a mapping"):
            handler.put({"t": 0}, 1, metadata)
        handler.put({"t": 0}, 1, {"exposure": 5})
        assert handler.finish().ok


NUMPY = [
    (lambda n: ps.Retry(times=n.int64(3), wait_initial_s=n.float32(2)), ps.Retry(times=3, wait_initial_s=2.0)),
    (
        lambda n: ps.edge(capacity=n.uint8(4), when_full=ps.Sample(n.int32(5))),
        ps.edge(capacity=4, when_full="sample(5)"),
    ),
    (lambda n: ps.Spill("d", max_bytes=n.int64(9)), ps.Spill("d", max_bytes=9)),
]


@pytest.mark.parametrize(("make", "same"), NUMPY)
def test_options_may_be_scalars_of_numpy(make, same):
    """A number of numpy, as every calculation gives one, is the number of Python that it equals, in files too."""
    import numpy

    assert make(numpy) == same
    assert repr(make(numpy)) == repr(same)


def test_a_node_takes_scalars_of_numpy():
    """Options and settings of a node may be scalars of numpy; they are read back from a file as plain ones."""
    import numpy

    batch = ps.processor(
        "batch", size=numpy.int64(3), stack=numpy.bool_(True), name=numpy.str_("batch"), workers=numpy.int16(1)
    )
    assert (batch.name, batch.workers) == ("batch", 1)
    assert type(batch.workers) is int
    assert type(batch.name) is str
    made = ps.Pipeline(ps.source("files", directory=".") >> batch >> ps.store("null", expect_every_s=numpy.float32(2)))
    made.check()
    assert ps.Pipeline.from_toml(made.to_toml()) == made


@pytest.mark.parametrize("value", [2.0, 2.5, 0, -1])
def test_scalars_of_numpy_are_checked_as_others(value):
    """A wrong number of numpy is refused as the number of Python is."""
    import numpy

    with pytest.raises(ConfigError, match="workers="):
        pipeline(node={"workers": numpy.asarray(value)[()]})


class NeedsSettings:
    """A store whose settings are required, and which is not an attrs class."""

    def __init__(self, path, *, size): ...


MISTAKES = [
    (lambda: ps.source([1]) >> ps.store("log"), r"node 'log' \(penstock .*\): \$\.path: is missing"),
    (lambda: ps.source([1]) >> ps.processor("batch", siz=3) >> ps.store("null"), r"unknown key 'siz'; did you mean"),
    (lambda: ps.source([1]) >> ps.processor("batch", siz=3) >> ps.store("null"), r"\): \$\.size: is missing; unknown"),
    (lambda: ps.source([1]) >> ps.processor("batch", size=0) >> ps.store("null"), r"\): size=0: must be"),
    (lambda: ps.source([1]) >> ps.processor(NeedsSettings) >> ps.store("null"), "cannot be called"),
    (lambda: ps.source([1]) >> ps.decoder(NeedsSettings) >> ps.store("null"), "NeedsSettings"),
    (lambda: ps.source([1]) >> ps.decoder(NeedsSettings, path="x") >> ps.store("null"), r"\$\.size: is missing"),
    (lambda: ps.source([1]) >> ps.store("NULL"), "did you mean 'null'"),
    (lambda: ps.source("Dead_Letters") >> ps.store("null"), "did you mean 'dead-letters'"),
    (lambda: ps.source([1]) >> ps.store("memory", capacity=0), "capacity=0: must be a whole number of at least 1"),
    (lambda: ps.source("files", directory=".", pattern="/etc/*") >> ps.store("null"), r"pattern='/etc/\*': must be"),
    (lambda: ps.source("files", directory=".", pattern="") >> ps.store("null"), "pattern='': must be a pattern"),
    (lambda: ps.source([1]) >> (lambda: 1) >> ps.store("null"), "called without arguments, and made 1, which has no"),
    (lambda: ps.source(pipeline) >> ps.store("null"), "pass a component, a name or an iterable$"),
    (lambda: ps.source(numbers) >> ps.store("null"), r"call the function: numbers\(\)"),
    (lambda: ps.source("") >> ps.store("null"), r"ps\.source\(''\): the name of the component is empty"),
    (lambda: ps.source([1]) >> ps.store(""), r"ps\.store\(''\): the name of the component is empty"),
    (lambda: ps.source([1], worker=2) >> ps.store("null"), r"ps\.source\(list\) has no option 'worker'; did you mean"),
    (lambda: ps.source([1]) >> ps.Latest() >> ps.store("null"), r"write ps\.edge\(when_full=ps\.Latest\(\)\)"),
    (lambda: ps.source([1]) >> Kept(), r"write ps\.store\(Kept\(\.\.\.\)\)"),
    (lambda: ps.edge() >> ps.store("null"), "an edge.. stands between two nodes"),
    (lambda: ps.source([1]) >> ps.edge(when_full="spill(d, lots)") >> ps.store("null"), "spill"),
    (lambda: ps.source([1]) >> ps.edge(when_full={"type": "Sample", "n": 3}) >> ps.store("null"), r"ps\.Sample\(10\)"),
    (lambda: ps.edge(when_full="drop-oldest"), "did you mean 'drop_oldest'"),
    (lambda: ps.edge(when_full="Drop Oldest"), "must be block"),
    (lambda: ps.source(ps.source([1])) >> ps.store("null"), r"ps\.source\(source\(<list>\)\): is a node already: join"),
    (lambda: ps.source([1]) >> ps.store(ps.store("null")), "is a node already: join it as it is"),
    (lambda: ps.control([1], action={}), r"ps\.control\(\) has no option 'action'; did you mean 'actions'"),
    (lambda: ps.control(ps.store("null")), r"ps\.control\(store\('null'\)\): is a store: pass a source"),
    (lambda: ps.control(ps.source([1]), name="orders"), "name: set options where the node is made"),
    (lambda: ps.Latest(n=1), r"Latest\(\) has no option 'n'; it takes no options"),
]


def numbers():
    yield 1


class Kept:
    """A store."""

    def write(self, records): ...


@pytest.mark.parametrize(("make", "words"), MISTAKES)
def test_a_mistake_is_named_with_its_remedy(make, words):
    """Each of these mistakes is refused before anything opens, with the value and what to write instead."""
    with pytest.raises(PenstockError, match=words):
        ps.Pipeline(make()).check()


def test_an_open_file_is_an_iterable_of_lines(tmp_path):
    """An object that can be iterated and lacks methods of a source, as an open file, is a source of its items."""
    (tmp_path / "lines").write_text("a\nb\n")
    with (tmp_path / "lines").open() as file:
        records = ps.Pipeline(ps.source(file, channel="lines") >> ps.store("null")).collect()
    assert [record.data for record in records] == ["a\n", "b\n"]


OBJECTS = [
    (lambda: ps.store(MemoryStore(when_exists="ignore")), "when_exists='ignore': must be one of error, replace, skip"),
    (lambda: ps.processor(Batch(size=2, stack="yes")), r"node 'Batch' \(.*\): \$\.stack: expected bool"),
    (lambda: ps.processor(Align(channels=("a", "b"), tolerance_s=1, missing="drop")), "missing='drop': must be one of"),
    (lambda: ps.processor(Filter(channels=("a", 3))), r"\$\.channels\[1\]: expected str, got int 3"),
    (lambda: ps.store(MemoryStore(capacity=0)), "capacity=0: must be a whole number"),
    (lambda: ps.source(PushSource(when_full="latest")), "when_full='latest': must be one of block"),
    (lambda: ps.source(PushSource(capacity="3")), "capacity='3': must be a whole number"),
]


@pytest.mark.parametrize(("make", "words"), OBJECTS)
def test_an_object_is_checked_as_its_name_is(make, words):
    """A component that is passed as an object has the same errors as one that is named with these settings."""
    with pytest.raises(ConfigError, match=words):
        ps.Pipeline(ps.source([1]) >> made if (made := make()).role != "source" else made >> ps.store("null")).check()


CONTROLS = [
    ({"given": "pause"}, r"given='pause': must be a list, as in given=\['create'\]"),
    ({"given": ("puse",)}, "no action puse; .* did you mean 'pause'"),
    ({"given": 3}, "given=3: must be a list"),
    ({"actions": 3}, "actions=3: must be a mapping"),
    ({"actions": {"snap": 3}}, r"actions\['snap'\]=3: must be a function"),
    ({"allow": 3}, "allow=3: must be a list"),
]


@pytest.mark.parametrize(("options", "words"), CONTROLS)
def test_a_wrong_control_channel_fails_when_it_is_made(options, words):
    """Wrong options of a control channel raise ConfigError at once, with the value and what it must be."""
    with pytest.raises(ConfigError, match=words):
        ps.control([1], **options)


def test_numbers_of_numpy_everywhere():
    """Pipelines, too, take numbers of numpy."""
    import numpy

    made = ps.Pipeline(ps.source([1, 2, 3]) >> ps.store("null"), checkpoint_every_s=numpy.float32(2))
    assert type(made.checkpoint_every_s) is float
    assert len(made.collect(limit=numpy.int64(2))) == 2


@pytest.mark.parametrize("make", [lambda: ps.Pipeline.from_toml(b"x"), lambda: ps.Pipeline.from_plain(3)])
def test_what_is_no_pipeline_is_refused(make):
    """Bytes for TOML, and data that are not a mapping, are a ConfigError."""
    with pytest.raises(ConfigError, match="must be"):
        make()


def test_a_run_that_is_over_cannot_be_paused():
    """Pausing or resuming a source of a run that is over is a RunError."""
    run = ps.Pipeline(ps.source([1], name="one") >> ps.store("null")).start()
    run.stop()
    for change in (run.pause, run.resume):
        with pytest.raises(ps.errors.RunError, match="is over"):
            change("one")


IN_FILES = [
    ({"workers": "2"}, {}, r"^\$\.nodes\[1\]\.workers: expected int, got str '2' \(node 'few'\)$"),
    ({"workers": 0}, {}, r"^\$\.nodes\[1\]: workers=0: must be .* \(node 'few'\)$"),
    ({"wrkers": 2}, {}, r"unknown key 'wrkers'; did you mean workers\? \(node 'few'\)$"),
    ({"retry": {"tims": 3}}, {}, r"^\$\.nodes\[1\]\.retry: unknown key 'tims'.* \(node 'few'\)$"),
    ({}, {"capacity": 0}, r"^\$\.edges\[0\]: capacity=0: .* \(edge 'all' >> 'few'\)$"),
    ({}, {"when_full": {"type": "Sample", "n": 0}}, r"^\$\.edges\[0\]\.when_full: .*\(edge 'all' >> 'few'\)$"),
    ({"name": 3}, {}, r"^\$\.nodes\[1\]\.name: expected str"),
]


@pytest.mark.parametrize(("node", "edge", "line"), IN_FILES)
def test_an_error_in_a_file_names_the_node(node, edge, line):
    """A line about a node or an edge of a file has its name beside its index, which nobody counts."""
    plain = {
        "nodes": [{"name": "all", "source": "files"}, {"name": "few", "processor": "sample"} | node],
        "edges": [{"before": "all", "after": "few"} | edge],
    }
    with pytest.raises(ConfigError, match=line):
        ps.Pipeline.from_plain(plain)


@attrs.define(kw_only=True)
class Checked:
    """A store of somebody else, whose settings are checked by attrs."""

    takes = "any"
    mode: str = attrs.field(default="fast", validator=attrs.validators.in_(("fast", "slow")))

    def open(self):
        pass

    def write(self, records):
        pass

    def sync(self):
        pass

    def close(self):
        pass


class CheckedStep(Checked):
    """A processor with the same setting."""

    def __call__(self, record):
        return record


def test_errors_of_validators_of_attrs_are_a_sentence():
    """A setting that a validator of attrs refuses is reported by what the validator says, without its definition."""
    kept = ps.store("null")
    for flow in (ps.store(f"{__name__}:Checked", mode="fats"), ps.processor(CheckedStep, mode="fats") >> kept):
        with pytest.raises(ConfigError) as caught:
            ps.Pipeline(ps.source([1]) >> flow).check()
        assert "'mode' must be in ('fast', 'slow') (got 'fats')" in str(caught.value)
        assert "Attribute(" not in str(caught.value)
