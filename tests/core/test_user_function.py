"""Functions of every form, called by a pipeline and by a DataHandler alike."""

from __future__ import annotations

import functools
import operator
from pathlib import Path

import numpy as np
import pytest

import penstock as ps
from penstock.dead_letters import read_dead_letters
from penstock.errors import WiringError

DATA = np.arange(6).reshape(2, 3)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def by_pipeline(function, count=1):
    """Pass records through a function in a pipeline; return the results, and the number of failures."""
    got = []
    items = [
        ps.Record(DATA, channel="h", seq=n, coords=ps.DataCoordinates(t=n), metadata={"n": n}) for n in range(count)
    ]
    flow = ps.source(items) >> ps.processor(function, name="function") >> (lambda record: got.append(record))
    report = ps.Pipeline(flow).run()
    assert report.balanced, report
    return [(dict(each.coords), each.data, dict(each.metadata)) for each in got], report.dead_lettered


def by_handler(function, count=1):
    """Do the same with a DataHandler."""
    got = []

    class Keeps:
        def open(self):
            pass

        def write(self, records):
            got.extend(records)

        sync = close = open

    handler = ps.DataHandler(Keeps(), function, name="h", when_exists="replace")
    for n in range(count):
        handler.put({"t": n}, DATA, {"n": n})
    report = handler.finish()
    return [(dict(each.coords), each.data, dict(each.metadata)) for each in got], report.dead_lettered


both = pytest.mark.parametrize("lead", [by_pipeline, by_handler])


def plain(got):
    return [(coords, data.tolist() if hasattr(data, "tolist") else data, metadata) for coords, data, metadata in got]


def record_of_record(record):
    return record.replace(data=1)


def triple_of_record(record):
    return record.coords, 1, record.metadata


def mapping_triple_of_record(record):
    return {"t": record.coords["t"]}, 1, {"n": record.coords["t"]}


def triples_of_record(record):
    return [(record.coords, 1, record.metadata)]


def triple_of_parts(coords, data, metadata):
    return coords, 1, metadata


def record_of_parts(coords, data, metadata):
    return ps.Record(1, coords=coords, metadata=metadata)


def generator_of_record(record):
    yield record.replace(data=1)


def generator_of_triples(record):
    yield record.coords, 1, record.metadata


def generator_of_parts(coords, data, metadata):
    yield coords, 1, metadata


def returns_a_generator(coords, data, metadata):
    return ((coords, 1, metadata) for _ in range(1))


def with_a_setting(record, gain=1):
    return record.replace(data=gain)


def with_a_keyword(coords, data, metadata, *, gain=1):
    return coords, gain, metadata


def with_an_optional_part(coords, data, metadata=None):
    return coords, 1, metadata


def whatever(*args):
    [record] = args
    return record.replace(data=1)


def passes_on(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def converts(function):
    @functools.wraps(function)
    def wrapper(record):
        return function(record.coords, record.data, record.metadata)

    return wrapper


def scaled(coords, data, metadata, gain):
    return coords, gain, metadata


class Callable3:
    def __call__(self, coords, data, metadata):
        return coords, 1, metadata

    def method(self, coords, data, metadata):
        return coords, 1, metadata

    @classmethod
    def of_class(cls, coords, data, metadata):
        return coords, 1, metadata

    @staticmethod
    def of_nobody(record):
        return record.replace(data=1)


class Yields:
    def __call__(self, coords, data, metadata):
        yield coords, 1, metadata


FORMS = {
    "record": record_of_record,
    "value": lambda record: 1,
    "triple of a record": triple_of_record,
    "triple with mappings": mapping_triple_of_record,
    "list of triples of a record": triples_of_record,
    "triple": triple_of_parts,
    "record of parts": record_of_parts,
    "generator": generator_of_record,
    "generator of triples": generator_of_triples,
    "generator of parts": generator_of_parts,
    "returns a generator": returns_a_generator,
    "setting": with_a_setting,
    "keyword": with_a_keyword,
    "optional part": with_an_optional_part,
    "*args": whatever,
    "decorated": passes_on(triple_of_parts),
    "decorated, of a record": passes_on(record_of_record),
    "decorated generator": passes_on(generator_of_parts),
    "converted": converts(triple_of_parts),
    "partial": functools.partial(scaled, gain=1),
    "partial of a generator": functools.partial(generator_of_parts),
    "callable object": Callable3(),
    "bound method": Callable3().method,
    "class method": Callable3.of_class,
    "static method": Callable3.of_nobody,
    "object that yields": Yields(),
    "lambda of three": lambda c, d, m: (c, 1, m),
}


@both
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_its_record(lead, form):
    """A function of any form, returning in any form, gives one record with its data, coordinates and metadata."""
    assert lead(FORMS[form], 3) == ([({"t": n}, 1, {"n": n}) for n in range(3)], 0)


@both
@pytest.mark.parametrize(
    "nothing", [lambda record: None, lambda record: [], lambda c, d, m: None, lambda c, d, m: [], lambda r: iter(())]
)
def test_nothing_is_discarded(lead, nothing):
    """None, an empty list and an empty iterator yield no record in either form, and are not errors."""
    assert lead(nothing, 2) == ([], 0)


@both
def test_several_are_several(lead):
    """A list of tuples, records or values yields one record for each, in order."""
    several = [
        lambda c, d, m: [({**c, "k": k}, k, {"k": k}) for k in (1, 2)],
        lambda r: [({**r.coords, "k": k}, k, {"k": k}) for k in (1, 2)],
        lambda r: [
            r.replace(coords=ps.DataCoordinates({**r.coords, "k": k}), data=k, metadata={"k": k}) for k in (1, 2)
        ],
    ]
    for function in several:
        assert lead(function) == ([({"t": 0, "k": k}, k, {"k": k}) for k in (1, 2)], 0)


def test_a_list_of_mappings_is_several_values():
    """Three mappings in a list are three records, and never taken for coordinates and metadata."""
    got, failed = by_pipeline(lambda record: [{"a": 1}, {"b": 2}, {"c": 3}])
    assert ([data for _, data, _ in got], failed) == ([{"a": 1}, {"b": 2}, {"c": 3}], 0)


@both
@pytest.mark.parametrize(
    "junk",
    [
        lambda record: (record.coords, record.data),
        lambda record: [record.coords, record.data, record.metadata],
        lambda record: record.coords,
        lambda coords, data, metadata: data,
        lambda coords, data, metadata: (coords, data),
        lambda coords, data, metadata: [coords, data, metadata],
        lambda coords, data, metadata: (coords, data, "by me"),
        lambda coords, data, metadata: (7, data, metadata),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_coordinates(lead, junk):
    """A result that is not a record, value or tuple of three costs its own record, and never becomes junk records."""
    assert lead(junk, 2) == ([], 2)


def test_the_error_of_a_result_says_what_to_return():
    """The dead letter of a result that cannot be understood names the coordinates and the remedy."""
    by_pipeline(lambda record: (record.coords, record.data))
    [letter] = read_dead_letters(Path())
    assert "for DataCoordinates(t=0): return (coords, data, metadata)" in letter.metadata["message"]


@both
def test_a_builtin_takes_the_record(lead):
    """A function in C, with a signature or without, is called with the record."""
    assert plain(lead(operator.attrgetter("data"))[0]) == [({"t": 0}, DATA.tolist(), {"n": 0})]
    assert lead(id)[1] == 0
    got = []
    assert lead(got.append) == ([], 0)
    assert [record.coords["t"] for record in got] == [0]


@both
def test_an_iterator_that_fails_costs_its_own_record(lead):
    """A function that raises costs its record, in the first list and later; a thousand errors nest nothing."""

    def results(record):
        return (1 // (record.coords["t"] - 3) for _ in range(1))

    got, failed = lead(results, 2500)
    assert (len(got), failed) == (2499, 1)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a,
        lambda a, b, c, d: a,
        functools.partial(triple_of_parts, None),
        lambda record, *, gain: record,
    ],
)
def test_a_function_of_another_form_is_refused_before_anything_opens(function):
    """A function that can be called neither with a record nor with three parts is a WiringError with a remedy."""
    with pytest.raises(WiringError, match=r"node 'f' .* takes .*\(record\) or \(coords, data, metadata\)"):
        ps.Pipeline(ps.source([1]) >> ps.processor(function, name="f") >> ps.store("null")).check()
    with pytest.raises(WiringError, match=r"\(record\) or \(coords, data, metadata\)"):
        ps.DataHandler("memory", function)


async def _awaited(record):
    return record


async def _streamed(record):
    yield record


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda record: _awaited(record), "coroutine"),
        (lambda record: [_awaited(record)], "coroutine"),
        (lambda record: _streamed(record), "async_generator"),
        (lambda record: ValueError("too dark"), "raise the error"),
        (lambda record: [record.data, KeyError("x")], "raise the error"),
    ],
    ids=["coroutine", "in a list", "asynchronous generator", "error", "error in a list"],
)
def test_what_nobody_means_as_data_is_no_result(returned, said, tmp_path):
    """An unawaited coroutine, or a returned error, is a failure of its record, and is not stored."""
    flow = ps.source([1, 2]) >> ps.processor(returned, name="mistaken") >> ps.store("null")
    report = ps.Pipeline(flow, dead_letters=tmp_path).run()
    assert (report.stored, report.dead_lettered) == (0, 2)
    assert said in report.account.node("mistaken").last_error
