"""The report has remarks on nodes that recovered, and on probable mistakes: these are not failures."""

from __future__ import annotations

import logging

import pytest

import penstock as ps
from penstock.builtin.decode import JsonDecoder
from penstock.component import Remark
from penstock.errors import ConfigError, EndOfSource, SourceError

from .runs import QUICK, Shelf


class Shaky:
    """A source that fails after every three records, and continues when it is reopened."""

    def __init__(self, failures):
        self.next = 0
        self.failures = failures

    def open(self):
        pass

    def read(self, max_records, timeout_s):
        if self.next % 3 == 0 and self.next and self.failures:
            self.failures -= 1
            raise SourceError(f"the cable is loose at {self.next}")
        if self.next == 12:
            raise EndOfSource("done")
        self.next += 1
        return [ps.Record(self.next, seq=self.next)]

    def close(self):
        pass


def told(caplog):
    return [entry.getMessage() for entry in caplog.records if entry.name == "penstock.report"]


def test_a_reopened_source_is_named(caplog):
    """A camera that was reopened twice and lost nothing is in the report with its last error, and the run is ok."""
    camera = ps.source(Shaky(2), name="camera", retry=ps.Retry(times=5, wait_initial_s=0.001))
    report = ps.Pipeline(camera >> ps.store("memory")).run()
    assert report.ok, report
    (remark,) = report.remarks
    assert "'camera'" in remark
    assert "reopened twice, last error: SourceError: the cable is loose at 3" in remark
    assert f"remark: {remark}" in str(report)
    assert report.to_plain()["remarks"] == [remark]
    assert told(caplog) == []


def test_notes_of_a_source_are_information(caplog):
    """Notes of a source are in the report, and logged as information; broken remarks cost nothing else."""
    caplog.set_level(logging.INFO, "penstock.report")
    source = Shaky(0)
    source.remarks = lambda: [Remark("channel 'cam' came"), Remark("channel 'cam' went")]
    report = ps.Pipeline(ps.source(source, name="camera") >> ps.store("null")).run()
    assert report.ok
    assert [each.text for each in report.account.node("camera").remarks] == ["channel 'cam' came", "channel 'cam' went"]
    assert [note for note in report.notes if "camera" in note] == report.remarks == report.notes
    assert [(entry.levelname, "went" in entry.getMessage()) for entry in caplog.records] == [
        ("INFO", False),
        ("INFO", True),
    ]


@pytest.mark.parametrize("wrong", [lambda: 1 / 0, lambda: "a text", lambda: ["a text"], lambda: [("a", "loud")], int])
def test_wrong_remarks_cost_nothing_else(wrong):
    """Remarks that raise, or are none, are an error of the source in the account, and cost nothing else."""
    source = Shaky(0)
    source.remarks = wrong
    report = ps.Pipeline(ps.source(source, name="camera") >> ps.store("null")).run()
    assert (report.stored, report.notes) == (12, [])
    assert report.account.node("camera").remarks == ()
    assert report.account.node("camera").last_error


def test_a_remark_has_one_of_two_levels():
    """A misspelled level is refused where the remark is made, with the near word."""
    with pytest.raises(ConfigError, match=r"level='warn': must be one of info, warning; did you mean 'warning'"):
        Remark("a fact", "warn")


class Doubtful(JsonDecoder):
    """A decoder with a doubt and a fact of each channel."""

    def decode(self, record):
        self.channel = record.channel
        return super().decode(record)

    def remarks(self):
        return [Remark(f"{self.channel} is old", "warning"), Remark("made by hand")]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_decoder_reports_facts_of_each_channel(workers):
    """What the decoders of two channels report is in the report once, with its level, whichever worker decoded."""
    records = [ps.Record(b"1", channel=f"camera {number % 2}", seq=number // 2) for number in range(10)]
    decoding = ps.decoder(Doubtful, name="decoding", workers=workers)
    report = ps.Pipeline(ps.source(records) >> decoding >> ps.store("null")).run()
    told = report.account.node("decoding").remarks
    assert sorted(told, key=str) == [
        Remark("camera 0 is old", "warning"),
        Remark("camera 1 is old", "warning"),
        Remark("made by hand", "info"),
    ]
    assert len(report.doubts) == 2
    assert len(report.notes) == 1


def test_calls_that_were_made_again_are_named():
    """A store that wrote at its second try is in the report, and the run is ok."""
    shelf = Shelf(fail_calls={1: OSError("busy")})
    report = ps.Pipeline(ps.source(range(3)) >> ps.store(shelf, name="archive", retry=QUICK)).run()
    assert report.ok, report
    (remark,) = report.remarks
    assert "node 'archive'" in remark
    assert "calls were retried once, last error: OSError: busy" in remark


def test_a_node_that_gave_nothing_is_remarked(caplog):
    """A function that forgets to return its result is remarked, also by logging; one at the end of a flow is not."""

    def f(record):
        record.replace(data=1)

    numbers = ps.source(range(3), name="numbers")
    with caplog.at_level(logging.WARNING):
        report = ps.Pipeline(numbers >> ps.processor(f, name="f") >> ps.store("memory"), numbers >> f).run()
    assert report.ok
    (remark,) = report.remarks
    assert "node 'f'" in remark
    assert "emitted nothing for all 3 records" in remark
    assert len(told(caplog)) == 1


def test_a_filter_is_not_remarked():
    """A processor that passes only some records causes no remark."""
    report = ps.Pipeline(
        ps.source(range(3)) >> (lambda record: record if record.data else None) >> ps.store("null")
    ).run()
    assert report.remarks == []


def test_a_used_up_generator_is_remarked(caplog):
    """A generator that is run a second time yields nothing, and the run reports why; a list can be run again."""
    for iterable in ((number for number in range(3)), map(int, "123"), iter([1, 2, 3])):
        caplog.clear()
        pipeline = ps.Pipeline(ps.source(iterable, name="camera") >> ps.store("null"))
        assert pipeline.run().remarks == []
        second = pipeline.run()
        assert (second.ok, second.received) == (True, 0)
        (remark,) = second.remarks
        assert "'camera'" in remark
        assert "returned nothing: its iterator was already exhausted" in remark
        assert len(told(caplog)) == 1
    twice = ps.Pipeline(ps.source([1, 2, 3]) >> ps.store("null"))
    assert [twice.run().received, twice.run().received] == [3, 3]
    assert ps.Pipeline(ps.source([]) >> ps.store("null")).run().remarks == []


def test_records_without_numbers_of_their_own_are_remarked():
    """Records of an iterable that all have the default number are in the report as a probable mistake."""
    for items in ([ps.Record(1), ps.Record(2)], (ps.Record(number) for number in range(3))):
        report = ps.Pipeline(ps.source(items, name="camera") >> ps.store("null")).run()
        assert report.ok, report
        (remark,) = report.remarks
        assert "'camera'" in remark
        assert "several records are number 0 of channel ''" in remark
        assert "seq" in remark
    tiles = [ps.Record(n, coords=ps.DataCoordinates(time=n)) for n in range(2)]  # their coordinates tell them apart
    numbered, channels = [ps.Record(1), ps.Record(2, seq=1)], [ps.Record(1, channel="a"), ps.Record(2, channel="b")]
    for items in (tiles, numbered, channels, [1, 2]):
        assert ps.Pipeline(ps.source(items) >> ps.store("null")).run().remarks == []
