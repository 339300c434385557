"""`Pipeline.collect`: the records of a run as a list."""

from __future__ import annotations

import itertools

import numpy
import pytest

import penstock as ps
from penstock.errors import ConfigError, RunFailedError


def double(record):
    return record.replace(data=record.data * 2)


def data(records):
    return [record.data for record in records]


def test_without_a_store():
    """A pipeline without a store returns the records at its end, in order, with channel, number and metadata."""
    records = ps.Pipeline(ps.source(range(100)) >> double).collect()
    assert data(records) == list(range(0, 200, 2))
    assert [record.seq for record in records] == list(range(100))


def test_with_a_store():
    """With stores it returns their records, once, and they store them too; ends without a store are left out."""
    memory = ps.store("memory", name="kept")
    numbers = ps.source(range(10), name="numbers")
    doubled = numbers >> ps.processor(double, name="doubled")
    pipeline = ps.Pipeline(doubled >> memory, doubled >> ps.store("null"), numbers >> ps.processor(double, name="show"))
    assert data(pipeline.collect()) == list(range(0, 20, 2))
    assert data(pipeline.collect()) == list(range(0, 20, 2))


def test_several_ends_and_a_bare_source():
    """Each end returns its records, and a source alone is an end."""
    numbers = ps.source(range(3), name="numbers")
    both = ps.Pipeline(numbers >> ps.processor(double, name="a"), numbers >> ps.processor(double, name="b")).collect()
    assert sorted(data(both)) == [0, 0, 2, 2, 4, 4]
    assert data(ps.Pipeline(numbers).collect()) == [0, 1, 2]
    assert data(ps.Pipeline(ps.source([1], name="collected")).collect()) == [1]


def test_arrays_are_copies():
    """The caller owns the collected records: a source that reuses its buffer does not change them."""
    frame = numpy.zeros(4)

    def camera():
        for number in range(5):
            frame[:] = number
            yield ps.Record(frame.copy(), seq=number)

    records = ps.Pipeline(ps.source(camera()) >> ps.store("null")).collect()
    assert [record.data[0] for record in records] == [0, 1, 2, 3, 4]
    records[0].data[:] = 9


@pytest.mark.parametrize("limit", [1, 7, 50])
def test_a_limit_ends_a_source_without_end(limit):
    """With a limit, a pipeline whose source never ends gives the first records, and drains."""
    assert data(ps.Pipeline(ps.source(itertools.count()) >> double).collect(limit=limit)) == list(
        range(0, 2 * limit, 2)
    )


def test_a_limit_that_is_none():
    """A limit below 1 is rejected."""
    with pytest.raises(ConfigError, match="limit=0"):
        ps.Pipeline(ps.source([1])).collect(limit=0)


def test_failures_are_heard(tmp_path, caplog):
    """Records that fail are missing, which is logged; with `check` it is raised."""
    pipeline = ps.Pipeline(ps.source([1, 0, 2]) >> (lambda record: 1 // record.data), dead_letters=tmp_path)
    assert len(pipeline.collect()) == 2
    assert any(entry.name == "penstock.report" for entry in caplog.records)
    with pytest.raises(RunFailedError):
        pipeline.collect(check=True)
