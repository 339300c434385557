"""Records, nodes, flows, coordinates, accounts, reports and runs print short texts; notebooks get HTML."""

import itertools
from html.parser import HTMLParser

import attrs
import numpy as np
import pytest

import penstock as ps
from penstock.short_text import short

HUGE = np.zeros((480, 640), np.uint16)


class Broken:
    """An object of a user whose `repr` and length raise."""

    def __repr__(self):
        raise ValueError("broken")

    __len__ = __iter__ = __bool__ = __repr__


class Unprintable:
    """An object of a user whose `repr` leaves the program."""

    def __repr__(self):
        raise SystemExit(3)


def double(record):
    """Return nothing."""


def report_of(name="lab", node="camera"):
    """Return a pipeline and its report."""
    pipeline = ps.Pipeline(ps.source(range(30), name=node) >> ps.edge(capacity=1) >> ps.store("null"), name=name)
    return pipeline, pipeline.run()


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (ps.Record(data=HUGE, channel="cam", seq=3), "Record(data=<uint16 (480, 640)>, channel='cam', seq=3)"),
        (ps.Record(data=b"x" * 1000, channel="cam"), "Record(data=<bytes, 1000 bytes>, channel='cam', seq=0)"),
        (
            ps.Record(data=1, coords=ps.Coordinates(t=3)),
            "Record(data=1, channel='', seq=0, coords=DataCoordinates(t=3))",
        ),
        (ps.source("files", directory="d", workers=1), "source('files', directory='d')"),
        (ps.processor(double, workers=2, name="twice"), "processor(<double>, name='twice', workers=2)"),
        (ps.source("kafka", sasl_password="hidden"), "source('kafka', sasl_password=…)"),
        (ps.source("kafka", options={"sasl.password": "hidden"}), "source('kafka', options={'sasl.password': '…'})"),
        (
            ps.source("kafka", options={"p": [{"ssl.key.password": "hidden"}]}),
            "source('kafka', options={'p': [{'ssl.key.password': '…'}]})",
        ),
        (ps.source("kafka", options={"ssl.key.pem": "hidden"}), "source('kafka', options={'ssl.key.pem': '…'})"),
        (ps.source("video", url="rtsp://me:hidden@cam/1"), "source('video', url='rtsp://…@cam/1')"),
        (ps.edge(), "edge()"),
        (ps.edge(capacity=3, when_full="sample(10)"), "edge(capacity=3, when_full=Sample(n=10))"),
        (ps.source("files") >> ps.decoder("json") >> double, "Flow(files >> json, json >> double)"),
        (ps.source("files") >> ps.edge(capacity=3), "Flow(files >> edge(capacity=3))"),
        (ps.Retry(times=None, on=(OSError, "a.b:C")), "Retry(times=None, on=(OSError, 'a.b:C'))"),
        (ps.Spill("d", max_bytes=1024), "Spill(directory='d', max_bytes=1024)"),
        (ps.Coordinates(t=3, c="a"), "DataCoordinates(t=3, c='a')"),
        (ps.CoordinatesIterator(t=range(9), c=["a", "b"]), "DataCoordinatesIterator(t=range(0, 9), c=['a', 'b'])"),
        (ps.CoordinatesIterator(t=itertools.count(1)), "DataCoordinatesIterator(t=count(1, 1))"),
        (ps.CoordinatesIterator({"t": i} for i in range(3)), "DataCoordinatesIterator(<generator>)"),
    ],
)
def test_texts_say_what_a_thing_is(thing, text):
    """`repr` names the type, with the fields that differ from the defaults, on a short line."""
    assert repr(thing) == text


def test_texts_of_long_things_are_short():
    """Neither big data, nor long settings, nor a flow of a hundred nodes makes a long line."""
    long = ps.source([1])
    for number in range(100):
        long = long >> ps.processor(double, name=f"step-{number}")
    for thing in (
        ps.Record(data=list(range(10_000)), channel="c" * 1000, metadata={"k": HUGE, "l": "x" * 9999}),
        ps.source("files", directory="d" * 1000),
        ps.CoordinatesIterator(t=list(range(1000))),
        long,
        ps.Pipeline(long),
    ):
        assert len(repr(thing)) < 300
        assert "\n" not in repr(thing)


VALUES = [Unprintable(), [Unprintable()], Broken(), {"a": Broken()}, HUGE, "x\ny" * 99, memoryview(b"x" * 99)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_text_never_raises(value):
    """Whatever a user's object does when printed, the text of a record that holds it is one short line."""
    assert len(short(value)) <= 60
    assert "\n" not in repr(ps.Record(data=value, channel=value, metadata={"x": value}))


def test_runs_and_reports_are_short():
    """A run shows whether it is running, a report whether it is ok, with its counts; accounts omit zeros."""
    pipeline = ps.Pipeline(ps.source([1], name="camera") >> ps.store("null"), name="lab")
    with pipeline.start() as run:
        assert repr(run).startswith("Run('lab': ")
        report = run.wait()
    assert repr(run) == "Run('lab': over, ok)"
    assert repr(report).startswith("RunReport('lab': ok, 1 received, 1 stored, ")
    assert repr(report.account).startswith("Account(2 nodes, 1 edges, ")
    assert repr(report.account.node("camera")).startswith("NodeAccount('camera', source, received=1")
    assert repr(report.account.edges[0]) == "EdgeAccount('camera >> null', put=1, taken=1)"
    assert repr(attrs.evolve(report, errors=("x",))).startswith("RunReport('lab': NOT OK")


class Tags(HTMLParser):
    """Collects the tags and the text of a fragment, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a & b \"quoted\" 'too'", "Größe"])
def test_html_is_escaped(name):
    """Notebooks show a report and a pipeline as HTML with every text escaped, and without users' tags."""
    pipeline, report = report_of(name=name, node=name)
    report = attrs.evolve(report, errors=(f"it broke: {name}",), dead_letters=name)
    for thing in (pipeline, report):
        tags = Tags(thing._repr_html_())
        assert tags.open == []
        assert "script" not in tags.seen
        assert name[:20] in tags.text
    assert Tags(report._repr_html_()).seen.count("table") == 2
    assert f"problem: it broke: {name}" in Tags(report._repr_html_()).text


def test_html_says_what_the_text_says():
    """The HTML of a report has every cell and note that its text has."""
    _, report = report_of()
    text = Tags(report._repr_html_()).text
    for word in str(report).split():
        assert word in text
