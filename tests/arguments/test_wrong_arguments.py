"""Arguments of a wrong kind at the public face: every name that a package exports refuses them clearly."""

from __future__ import annotations

import contextlib
import inspect

import pytest
from right import right_arguments
from walk import ODD, Opens, arguments, complaint, exported

import penstock as ps
from penstock.builtin.memory import MemoryStore
from penstock.errors import ConfigError, ObjectNotFoundError, UnknownOptionError
from penstock.testing import FakeSource
from penstock_lmdb import LmdbRecordStore, LMDBStore
from penstock_shm import ShmObjectStore

PACKAGES = (
    "penstock",
    "penstock.testing",
    "penstock_npy",
    "penstock_lmdb",
    "penstock_shm",
    "penstock_zenoh",
    "penstock_kafka_av",
)
MADE_BY_PENSTOCK = {"penstock_npy.LogMessage"}
"""Values of which one is made for each entry that is read: checking them would cost time, and users make none."""

CALLS = [(name, call) for package in PACKAGES for name, call in exported(package) if name not in MADE_BY_PENSTOCK]


@pytest.fixture(autouse=True)
def nothing_opens(tmp_path, monkeypatch):
    """A directory of its own; what the calls would start is not started."""

    def opens(*_, **__):
        raise Opens

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("penstock.run.run.Run.start", opens)


@pytest.fixture
def objects(monkeypatch):
    """Make objects with methods for users; runs and handlers are ended."""
    with contextlib.ExitStack() as stack:

        def make(cls):
            if cls is ps.Pipeline:
                return ps.Pipeline(ps.source([1], name="numbers") >> ps.store("null"))
            if cls is ps.Plugins:
                return ps.Plugins.discover()
            monkeypatch.undo()
            if cls is ps.DataHandler:
                return stack.enter_context(ps.DataHandler(ps.store("memory")))
            return stack.enter_context(ps.Pipeline(ps.source(FakeSource(more=True)) >> ps.store("null")).start())

        yield make


@pytest.mark.parametrize(("name", "call"), CALLS, ids=[name for name, _ in CALLS])
def test_wrong_arguments_are_refused(name, call):
    """A public call refuses an argument of a wrong kind with a PenstockError that names it, or accepts it rightly."""
    required = [one.name for one in arguments(call) if one.default is one.empty]
    right = right_arguments(name, required)
    found = {
        f"{argument.name}={kind}": wrong
        for argument in arguments(call)
        for kind, value in ODD.items()
        if (wrong := complaint(call, right, argument.name, value)) is not None
    }
    assert found == {}


METHODS = [
    *[(ps.Pipeline, name) for name in ("check", "collect", "from_plain", "from_toml", "name_of", "parts", "read")],
    *[(ps.Pipeline, name) for name in ("run", "start", "write")],
    *[(ps.Plugins, name) for name in ("components", "discover", "find", "load")],
    *[(ps.Run, name) for name in ("add", "node", "pause", "remove", "replace", "resume", "stop", "wait")],
    *[(ps.DataHandler, name) for name in ("await_data", "finish", "subscribe")],
]


@pytest.mark.parametrize(("cls", "method"), METHODS, ids=[f"{cls.__name__}.{method}" for cls, method in METHODS])
def test_wrong_arguments_of_methods_are_refused(cls, method, objects):
    """The methods that users call refuse arguments of a wrong kind, as constructors do."""
    call = getattr(objects(cls), method)
    required = [one.name for one in arguments(call) if one.default is one.empty]
    right = right_arguments(f"{cls.__name__}.{method}", required)
    found = {
        f"{argument.name}={kind}": wrong
        for argument in arguments(call)
        for kind, value in ODD.items()
        if not ("timeout" in argument.name and kind in ("None", "3", "inf"))  # it would wait
        if (wrong := complaint(call, right, argument.name, value, may_fail=True)) is not None
    }
    assert found == {}


OF_EACH_RECORD = {"penstock.Record", "penstock_npy.LogMessage", "penstock_npy.LogPackage", "penstock.YamlConfig"}
"""Made for each record, where a check would cost time; or without settings of its own."""

CLASSES = [
    pytest.param(call, id=name)
    for name, call in CALLS
    if inspect.isclass(call)
    and name not in OF_EACH_RECORD
    and not any(one.kind is one.VAR_KEYWORD for one in inspect.signature(call).parameters.values())
]


@pytest.mark.parametrize("cls", CLASSES)
def test_a_misspelled_setting_gets_a_suggestion(cls):
    """An unknown setting is the TypeError of Python, and an error of penstock that names the nearest setting."""
    known = [name for name, one in inspect.signature(cls).parameters.items() if one.kind is not one.VAR_POSITIONAL]
    with pytest.raises(UnknownOptionError) as caught:
        cls(**{f"{known[0]}z" if known else "z": None})
    assert isinstance(caught.value, TypeError)
    assert f"did you mean {known[0]!r}?" in str(caught.value) if known else "takes no options" in str(caught.value)


@pytest.mark.parametrize("wrong", ["1", b"", [], object()], ids=["text", "bytes", "list", "object"])
def test_a_wrong_timeout_of_get_is_named(wrong, objects):
    """`get`, which is called for each record and checks no other kinds, names a time that is not a number."""
    with pytest.raises(ConfigError, match=r"timeout_s=.*: must be a number of seconds, or None"):
        objects(ps.DataHandler).get({"time": 0}, timeout_s=wrong)


@pytest.fixture
def subscribable(tmp_path, monkeypatch):
    """Stores that notify subscribers, open."""
    monkeypatch.setenv("PENSTOCK_SHM_DIR", str(tmp_path / "shm"))
    stores = [MemoryStore(), LmdbRecordStore(path=tmp_path / "records.lmdb"), ShmObjectStore("objects")]
    with contextlib.ExitStack() as stack:
        for store in stores:
            store.open()
            stack.callback(store.close)
        objects = LMDBStore(tmp_path, "objects")
        stack.callback(objects.close)
        yield [*stores, objects]


@pytest.mark.parametrize("method", ["subscribe", "watch"])
def test_a_subscription_that_cannot_work_is_refused_at_once(method, subscribable):
    """A callback that cannot be called, or a pattern that is not text, never reaches the thread that would call it."""
    for store in subscribable:
        if not hasattr(store, method):
            continue
        for wrong in (3, None, "text", []):
            with pytest.raises(ConfigError, match=r"callback="):
                getattr(store, method)(wrong)
        for wrong in (3, None, b"*", []):
            with pytest.raises(ConfigError, match=r"pattern="):
                getattr(store, method)(print, wrong)


@pytest.mark.parametrize("key", [3, None, object(), float("nan")], ids=["3", "None", "object", "nan"])
def test_an_object_without_text_for_a_key_is_not_found(key, subscribable):
    """What is not text is not the key of an object in shared memory, and no bare TypeError."""
    store = next(each for each in subscribable if isinstance(each, ShmObjectStore))
    for method in (store.get, store.info, store.delete):
        with pytest.raises(ObjectNotFoundError):
            method(key)
