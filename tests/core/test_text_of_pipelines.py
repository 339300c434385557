"""Pipelines as text: TOML, YAML and JSON, and the errors of what a person writes there."""

import inspect

import pytest

import penstock as ps
from penstock.errors import ConfigError, UnknownOptionError

PIPELINE = ps.Pipeline(
    ps.source("files", directory="in", retry=ps.Retry(times=5, on=(OSError,)))
    >> ps.edge(when_full=ps.Spill("spilled", max_bytes=1 << 30))
    >> ps.store("null", name="end"),
    name="texts",
)


@pytest.mark.parametrize("kind", ["toml", "yaml", "json"])
def test_each_format_round_trips_as_text(kind, tmp_path):
    """A pipeline made from its text is equal, and the text is the content of the file that `write` writes."""
    text = getattr(PIPELINE, f"to_{kind}")()
    assert getattr(ps.Pipeline, f"from_{kind}")(text) == PIPELINE
    PIPELINE.write(tmp_path / f"pipeline.{kind}")
    assert (tmp_path / f"pipeline.{kind}").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("kind", ["toml", "yaml", "json"])
@pytest.mark.parametrize("text", ["", "[", "nodes: 3", '{"nodes": 3}', "nodes = 3", "\x00", b"nodes", None])
def test_text_that_is_no_pipeline_is_a_config_error(kind, text):
    """Text that is not a pipeline, and what is not text, is refused with a ConfigError in each format."""
    with pytest.raises(ConfigError):
        getattr(ps.Pipeline, f"from_{kind}")(text)


@pytest.mark.parametrize("table", [{"spill": "d"}, {"policy": "spill", "directory": "d"}, {"type": 5}])
def test_a_table_without_type_says_how_a_policy_is_named(table):
    """A table for `when_full` that names no policy is refused with the key that names one."""
    plain = PIPELINE.to_plain()
    plain["edges"][0]["when_full"] = table
    with pytest.raises(ConfigError, match=r"the key 'type' of a table names one of Block, .*Spill \(edge 'files'"):
        ps.Pipeline.from_plain(plain)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("builtins.OSError", "OSError"),
        ("penstock.errors.StoreError", "StoreError"),
        ("json.JSONDecodeError", "json:JSONDecodeError"),
        ("OSEror", "OSError"),
    ],
)
def test_retry_suggests_the_error_that_was_meant(name, meant):
    """A misspelled error, and one written with dots, gets a suggestion that `Retry` accepts."""
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        ps.Retry(on=name)
    ps.Retry(on=meant)


@pytest.mark.parametrize("value", [ps.Retry, ps.Spill, ps.Sample, ps.Edge, ps.Node])
def test_signatures_show_the_types_of_arguments(value):
    """`help()` shows the type of each argument of an option, not that of a converter."""
    for parameter in inspect.signature(value).parameters.values():
        assert parameter.annotation not in {"T", parameter.empty}, parameter


def test_an_unknown_option_of_an_object_is_the_error_of_python_too():
    """A misspelled option beside an object raises the error that an unknown keyword raises everywhere."""
    with pytest.raises(UnknownOptionError, match="did you mean 'workers'"):
        ps.source([1], worker=2)
