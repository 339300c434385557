"""What a newcomer gets wrong is refused before anything opens, with the value and a remedy, by an error of penstock."""

from __future__ import annotations

import pytest

import penstock as ps
from penstock.errors import ConfigError, PenstockError, RecordFieldError, WiringError
from penstock.testing.leaks import no_leaks


def pipeline(*, node=None, **options):
    return ps.Pipeline(
        ps.source([1]) >> ps.processor(lambda record: record, **(node or {})) >> ps.store("null"), **options
    )


@pytest.mark.parametrize("value", [5, "", b"name", ["a"], "\ud800"])
@pytest.mark.parametrize("where", ["node", "pipeline"])
def test_a_name_is_a_text(where, value):
    """A name that is no text, or cannot be written, is refused."""
    with pytest.raises(ConfigError, match="name="):
        pipeline(node={"name": value}) if where == "node" else pipeline(name=value)


@pytest.mark.parametrize("value", [3, "often", True])
def test_a_retry_is_one(value):
    """A number of tries is not a policy; the error shows what is."""
    with pytest.raises(ConfigError, match=r"retry=.*Retry\(\.\.\.\)"):
        pipeline(node={"retry": value})


@pytest.mark.parametrize("value", [None, 5, b"dead"])
def test_dead_letters_are_a_directory(value):
    """A directory of dead letters that is no path is refused; None does not become a directory of that name."""
    with pytest.raises(ConfigError, match="dead_letters="):
        pipeline(dead_letters=value)


def test_a_name_alone_says_no_role():
    """A text behind `>>` is refused with what to write."""
    with pytest.raises(WiringError, match=r"ps\.store\('null'\)"):
        ps.source([1]) >> "null"


@pytest.mark.parametrize("channel", [5, b"a", ("a",)])
def test_an_odd_channel_of_an_iterable_is_no_record(channel, tmp_path):
    """A channel that is no text reaches no store, since nobody could read it."""
    kept = ps.store("memory")
    try:
        report = ps.Pipeline(ps.source([1, 2], channel=channel) >> kept, dead_letters=tmp_path).run()
    except PenstockError:
        return
    assert (report.stored, report.dead_lettered) == (0, 2)


@pytest.mark.parametrize("metadata", [5, "text", [1]])
def test_metadata_of_a_handler_are_a_mapping(metadata, tmp_path, monkeypatch):
    """Metadata that are no mapping are refused, and the handler goes on."""
    monkeypatch.chdir(tmp_path)
    with no_leaks(), ps.DataHandler("memory") as handler:
        with pytest.raises(RecordFieldError, match="must be a mapping"):
            handler.put({"t": 0}, 1, metadata)
        handler.put({"t": 0}, 1, {"exposure": 5})
        assert handler.finish().ok
