"""The options of nodes are declared once: signatures, types for editors, help and files agree with `Node`."""

import inspect
import pickle
import typing

import attrs
import pytest

import penstock as ps
from penstock.builtin import hooks
from penstock.compose import shapes
from penstock.compose.graph_file import EdgeEntry, NodeEntry
from penstock.compose.import_path import import_path
from penstock.compose.node import NODE_OPTIONS, Edge, Node
from penstock.errors import ConfigError, StoreError, WiringError

FACTORIES = [ps.source, ps.decoder, ps.processor, ps.store]
OFFERS = {
    (role, offer.name): import_path(offer.path)
    for role in ("source", "decoder", "processor", "store")
    for offer in getattr(hooks, f"penstock_{role}s")()
}


class OwnError(Exception):
    """An error of a user's module."""


def double(record):
    """Return nothing."""


@pytest.mark.parametrize("factory", FACTORIES)
def test_signatures_have_the_options_of_a_node(factory):
    """`ps.source` and its kind have every option of `Node`, keyword-only, with the same default."""
    parameters = inspect.signature(factory).parameters
    options = {name: one.default for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY}
    assert options == {field.name: field.default for field in attrs.fields(Node) if field.name in NODE_OPTIONS}


@pytest.mark.parametrize("factory", FACTORIES)
def test_overloads_have_the_options_of_a_node(factory):
    """Every overload takes the options of `Node`, whether it lists them or unpacks a TypedDict that has them."""
    overloads = typing.get_overloads(factory)
    assert overloads
    for overload in overloads:
        parameters = inspect.signature(overload).parameters
        spelled = [name for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY]
        unpacked = next(str(one.annotation) for one in parameters.values() if one.kind is one.VAR_KEYWORD)
        names = spelled or getattr(shapes, unpacked.partition("shapes.")[2].rstrip("]")).__annotations__
        assert set(NODE_OPTIONS) <= set(names)


@pytest.mark.parametrize("factory", FACTORIES)
def test_help_says_every_option(factory):
    """Each docstring describes every argument, and includes the contract with all its methods."""
    said = inspect.getdoc(factory)
    for name in (*NODE_OPTIONS, "component", "settings"):
        assert f"    {name}: " in said
    contract = inspect.getmodule(import_path(f"penstock.{factory.__name__}:SupportsLifecycle")
                                 if factory.__name__ == "processor"
                                 else import_path_of_contract(factory.__name__))  # fmt: skip
    protocols = [one for one in vars(contract).values() if inspect.isclass(one) and one.__module__ == contract.__name__]
    for protocol in protocols:
        assert f"class {protocol.__name__}:" in said
        assert protocol.__doc__.splitlines()[0] in said
        for name, method in vars(protocol).items():
            if inspect.isfunction(method) and method.__doc__ and not name.startswith("_"):
                assert f"{name}(" in said
                assert method.__doc__.splitlines()[0] in said
        for name in vars(protocol).get("__annotations__", {}):
            assert f"\n    {name}: " in said


def test_help_says_keywords_and_special_methods():
    """The contract in a help has arguments with stars, and the methods of a readable store that have no docstring."""
    said = inspect.getdoc(ps.store)
    assert "keys(**coords: Any) -> Iterator[Key]" in said
    assert "subscribe(callback: Callable[[Key], None], pattern: str, **coords: Any)" in said
    assert "__contains__(key: object) -> bool" in said
    assert "__len__() -> int" in said


def import_path_of_contract(role):
    """Return the class of a contract."""
    return import_path(f"penstock.{role}:{role.title()}")


@pytest.mark.parametrize("key", sorted(shapes.SETTINGS))
def test_settings_of_builtin_components_for_editors_are_theirs(key):
    """The settings that an editor completes for a built-in component are exactly its own, also the required ones."""
    shape, cls = shapes.SETTINGS[key], OFFERS[key]
    fields = {field.alias: field for field in attrs.fields(cls) if field.init}
    assert set(shape.__annotations__) - set(NODE_OPTIONS) == set(fields)
    required = {name for name, field in fields.items() if field.default is attrs.NOTHING}
    assert {name for name, hint in shape.__annotations__.items() if "Required[" in str(hint)} == required


def test_builtin_components_without_settings_for_editors_have_none():
    """Only the push source has settings but is not listed for editors, since no file can name its inlet."""
    rest = [key for key in OFFERS if key not in shapes.SETTINGS]
    assert [key for key in rest if any(field.init for field in attrs.fields(OFFERS[key]))] == [("source", "push")]


def test_files_have_the_options_of_nodes_and_edges():
    """An entry in a file has the options of `Node` and of `Edge`, with the same defaults."""
    for entry, options, names in (
        (NodeEntry, Node, NODE_OPTIONS[1:]),
        (EdgeEntry, Edge, [field.name for field in attrs.fields(Edge)]),
    ):
        written = {field.name: field.default for field in attrs.fields(entry)}
        for name in names:
            assert written[name] == attrs.fields_dict(options)[name].default


ERRORS = [
    ((OSError, "StoreError"), ["OSError", "StoreError"]),
    (OSError, ["OSError"]),
    ("TimeoutError", ["TimeoutError"]),
    ((OwnError,), [f"{__name__}:OwnError"]),
    (["json.decoder:JSONDecodeError"], ["json.decoder:JSONDecodeError"]),
    ((), []),
]


@pytest.mark.parametrize(("on", "names"), ERRORS)
def test_retry_takes_classes_and_names(on, names, monkeypatch):
    """`on` takes classes, names, import paths, one or several; a file holds names, and gives an equal pipeline."""
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or inspect.getmodule(OwnError))
    retry = ps.Retry(on=on)
    assert retry.error_names() == names
    assert pickle.loads(pickle.dumps(retry)) == retry
    pipeline = ps.Pipeline(ps.source("files", directory="in", retry=retry) >> ps.store("null"))
    again = ps.Pipeline.from_toml(pipeline.to_toml())
    assert again == pipeline
    assert again.to_plain()["nodes"][0]["retry"]["on"] == names
    assert all(issubclass(error, BaseException) for error in again.nodes[0].retry.error_classes())


def test_names_and_classes_make_equal_retries():
    """A class and its name are the same error."""
    assert ps.Retry(on=("OSError", "StoreError")) == ps.Retry(on=(OSError, StoreError))


@pytest.mark.parametrize(
    ("on", "said"),
    [
        (("OSErorr",), "'OSErorr' is not the name of a built-in or penstock exception; did you mean 'OSError'"),
        (("print",), "'print' is not the name"),
        ((int,), "<class 'int'> is neither an exception class"),
        ((OSError("full"),), "is neither an exception class"),
        (7, "on=7: must be a tuple"),
    ],
)
def test_what_is_no_error_is_refused_when_a_retry_is_made(on, said):
    """`Retry(on=…)` raises ConfigError at once for a value that is not an exception."""
    with pytest.raises(ConfigError) as caught:
        ps.Retry(on=on)
    assert said in str(caught.value)


def test_a_path_that_leads_to_no_error_is_found_before_anything_opens():
    """An import path in `on` is imported by the check of the pipeline, and rejected if it is not an exception."""
    pipeline = ps.Pipeline(
        ps.source([1]) >> ps.processor(double, retry=ps.Retry(on=("json:dumps",))) >> ps.store("null")
    )
    with pytest.raises(WiringError, match=r"json:dumps.*not an exception class"):
        pipeline.check()
    pipeline.check(import_paths=False)


def test_a_local_class_has_no_name_for_a_file():
    """An exception class that no module holds is rejected for a file, with the name of the node."""

    class Local(Exception):
        pass

    pipeline = ps.Pipeline(ps.source("files", directory="in", retry=ps.Retry(on=Local)) >> ps.store("null"))
    with pytest.raises(WiringError, match=r"'files'.*retry on Local.*inside a function"):
        pipeline.to_toml()


@attrs.define(kw_only=True)
class Gain:
    """A processor with a setting."""

    factor: int = 1
    table: object = None

    def __call__(self, record):
        """Return the record."""
        return record


def plain_class():
    """Return a class without a library's support."""

    class Plain:
        def __init__(self, factor=1):
            self.factor = factor

        def __call__(self, record):
            return record

    return Plain


@pytest.mark.parametrize(
    ("make", "near"),
    [
        (lambda: ps.source("files", directory="d", wrokers=2), "did you mean 'workers'"),
        (lambda: ps.source("files", directroy="d"), "did you mean directory"),
        (lambda: ps.processor(Gain, facto=2), "did you mean factor"),
        (lambda: ps.processor(Gain, factr=2, table=object()), "did you mean 'factor'"),
        (lambda: ps.processor(Gain, on_eror="skip"), "did you mean 'on_error'"),
        (lambda: ps.processor(plain_class(), factr=2), "did you mean 'factor'"),
        (lambda: ps.processor(plain_class(), palce="process"), "did you mean 'place'"),
        (lambda: ps.processor(double, ordred=False), "did you mean 'ordered'"),
        (lambda: ps.processor("textwrap:dedent", txt="x"), "did you mean 'text'"),
        (lambda: ps.processor("textwrap:dedent", nam="x"), "did you mean 'name'"),
        (lambda: ps.source([1], chanel="c"), "did you mean 'channel'"),
        (lambda: ps.store(Gain(), retyr=None), "did you mean 'retry'"),
        (lambda: ps.source([1], place="proces"), "did you mean 'process'"),
    ],
)
def test_misspelled_options_and_settings_name_the_nearest(make, near):
    """A misspelled option of a node, or setting of its component, is rejected with the nearest one."""

    def check():
        made = make()
        before = made if made.role == "source" else ps.source([1]) >> made
        ps.Pipeline(before >> ps.store("null")).check()

    with pytest.raises(ConfigError) as caught:
        check()
    assert near in str(caught.value)


@pytest.mark.parametrize(("key", "word", "near"), [("on_error", "skpi", "skip"), ("place", "proces", "process")])
def test_misspelled_words_of_files_name_the_nearest(key, word, near):
    """A misspelled word in a pipeline file is rejected with its path and the nearest one."""
    plain = {"nodes": [{"name": "a", "source": "files", key: word}]}
    with pytest.raises(ConfigError, match=rf"\$\.nodes\[0\]\.{key}: .*did you mean '{near}'"):
        ps.Pipeline.from_plain(plain)


@pytest.mark.parametrize("key", ["wrokers", "on_eror", "nmae", "procesor"])
def test_misspelled_keys_of_files_name_the_nearest(key):
    """A misspelled key of a pipeline file is rejected with its path and the nearest one."""
    plain = {"nodes": [{"name": "a", "source": "files", key: 1}]}
    with pytest.raises(ConfigError, match=r"^\$\.nodes\[0\]: unknown key .*did you mean"):
        ps.Pipeline.from_plain(plain)


@pytest.mark.parametrize("name", [" ", "\t", "two\nlines", "ends\n", "form\x0cfeed", "separated\u2028"])
def test_names_are_one_visible_line(name):
    """A name that a report could not print in its table is refused where it is given, for nodes and pipelines."""
    with pytest.raises(ConfigError, match=r"non-empty string|single line"):
        ps.store("memory", name=name)
    with pytest.raises(ConfigError, match=r"non-empty string|single line"):
        ps.Pipeline(ps.source([1]) >> ps.store("memory"), name=name)
