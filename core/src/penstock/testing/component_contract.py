"""ComponentContract: the promises of every component, which the four contracts share."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest

from penstock.component import KINDS
from penstock.compose.node import NODE_OPTIONS
from penstock.errors import PenstockError
from penstock.processor import SupportsLifecycle
from penstock.record import Record
from penstock.testing.leaks import Held, leaks, no_leaks

Test = TypeVar("Test", bound=Callable[..., None])

_SPECIAL = ("__contains__", "__len__")


def can(component: Any, ability: type) -> bool:
    """Return whether a component has an ability, one of the `Supports…` protocols."""
    return isinstance(component, ability)


def lacks(component: Any, ability: type) -> bool:
    """Return whether a component lacks an ability; fail if it has only a part of it, which would be unusable."""
    if can(component, ability):
        return False
    methods = [name for name in vars(ability) if not name.startswith("_") or name in _SPECIAL]
    there = [name for name in methods if hasattr(component, name)]
    assert not there, (
        f"{type(component).__name__} has {', '.join(there)}, but not the rest of {ability.__name__}: "
        f"write {', '.join(name for name in methods if name not in there)} too, or remove all of them"
    )
    return True


def needs(*abilities: type) -> Callable[[Test], Test]:
    """Decorate a test for components with these abilities; without one, a component must lack all of its methods.

    Without the ability, the test checks this instead of being skipped.
    """

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def run(self: ComponentContract, *arguments: Any, **fixtures: Any) -> None:
            directory = fixtures.get("tmp_path", arguments[0] if arguments else Path("unused"))
            component = self.make(directory)
            lacking = [ability for ability in abilities if lacks(component, ability)]
            if not lacking:
                test(self, *arguments, **fixtures)

        return run  # type: ignore[return-value]  # wraps gives it the signature of the test

    return decorate


def is_kind(data: Any, kind: str) -> bool:
    """Return whether data are of a kind: "bytes", "array", "mapping" or "any"."""
    if kind == "bytes":
        return isinstance(data, (bytes, bytearray, memoryview))
    if kind == "array":
        return hasattr(data, "dtype") and hasattr(data, "shape")
    return kind != "mapping" or hasattr(data, "keys")


def as_view(record: Record) -> Record:
    """Return the record with a read-only view in place of its bytes, like one received through shared memory."""
    if not isinstance(record.data, (bytes, bytearray)):
        return record
    return record.replace(data=memoryview(record.data).toreadonly())


def copied(data: Any) -> Any:
    """Return a copy of data that may be a view of changing memory."""
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    return data.copy() if hasattr(data, "copy") else data


def names_its_promise(test: Test) -> Test:
    """Add the promise that a test checks, its docstring, to the error of a failing one."""
    promise = " ".join((inspect.getdoc(test) or "").split("\n\n")[0].split())

    @functools.wraps(test)
    def run(*arguments: Any, **fixtures: Any) -> None:
        __tracebackhide__ = True
        try:
            test(*arguments, **fixtures)
        except BaseException as error:  # also an error of the component itself; it is raised again
            if not any(promise in note for note in getattr(error, "__notes__", ())):
                error.add_note(f"The promise that it breaks: {promise}")
            raise

    return run  # type: ignore[return-value]  # wraps gives it the signature of the test


def _name_promises(contract: type) -> None:
    for name, test in list(vars(contract).items()):
        if name.startswith("test_"):
            setattr(contract, name, names_its_promise(test))


class ComponentContract:
    """Promises of every component. Do not inherit this one: inherit the contract of the role."""

    picklable = True
    """False for a component whose settings cannot be sent to another process (a function defined in a function)."""

    shared_memory = ""
    """Glob pattern of shared memory that the component creates under names without its process id ("psm_*")."""

    threads: str | Collection[str] = ()
    """Glob patterns of threads in a library's pool, which may outlive the component ("asyncio_*").

    Creating the component must not start even these.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__.startswith(f"{__package__}."):  # an author's own tests are the author's
            _name_promises(cls)

    def make(self, tmp_path: Path) -> Any:
        """Return a new component; the contract of the role has a named method for this."""
        raise NotImplementedError

    def make_unopenable(self, tmp_path: Path) -> Any:
        """Return a component whose `open` must fail (a file is where its directory should be), or None."""
        return None

    @pytest.fixture(autouse=True)
    def _leaves_nothing_behind(self) -> Iterator[None]:
        with no_leaks(shared_memory=self.shared_memory, threads=self.threads):
            yield

    def test_building_does_nothing(self, tmp_path: Path) -> None:
        """Creating a component touches no file, opens nothing and starts no thread."""
        files, before = sorted(tmp_path.rglob("*")), Held.now(shared_memory=self.shared_memory)
        component = self.make(tmp_path)
        assert sorted(tmp_path.rglob("*")) == files, "creating it made files; do that in open()"
        found = leaks(before, wait_s=0, shared_memory=self.shared_memory)
        assert not found, f"creating it acquired resources; do that in open(): {found}"
        del component

    def test_settings_are_data(self, tmp_path: Path) -> None:
        """Two components with the same settings are equal, also after pickling.

        A function is its only setting.
        """
        component = self.make(tmp_path)
        if attrs.has(type(component)):
            assert attrs.evolve(component) == component, "settings compare by value: leave attrs' eq on for them"
        if self.picklable:
            try:
                again = pickle.loads(pickle.dumps(component))
            except Exception as error:  # whatever a setting's class raises
                raise AssertionError(
                    f"it cannot be pickled ({type(error).__name__}: {error}): keep open files, locks and threads out "
                    "of the settings, and make them in open()"
                ) from error
            assert again == component, (
                "after pickling it is not equal: make it an attrs class whose fields are settings"
            )

    def test_settings_leave_the_nodes_names_alone(self, tmp_path: Path) -> None:
        """No setting has the name of a node option, which `ps.store("x", name=…)` would take instead."""
        component = self.make(tmp_path)
        fields = attrs.fields(type(component)) if attrs.has(type(component)) else ()  # a function has no settings
        settings = {field.alias for field in fields if field.init}
        assert not settings & set(NODE_OPTIONS), f"rename the settings {sorted(settings & set(NODE_OPTIONS))}"

    def test_kinds_of_data_are_known(self, tmp_path: Path) -> None:
        """`takes` and `gives` are "bytes", "array", "mapping" or "any", so that wiring can be checked."""
        component = self.make(tmp_path)
        for name in ("takes", "gives"):
            assert getattr(component, name, "any") in KINDS, f"{name}={getattr(component, name)!r}: use one of {KINDS}"

    def test_settings_do_not_change(self, tmp_path: Path) -> None:
        """Opening and closing change no setting: afterwards it is equal to a new one."""
        component = self.make(tmp_path)
        if attrs.has(type(component)) and not lacks(component, SupportsLifecycle):
            component.open()
            component.close()
            assert component == self.make(tmp_path), "open() changes a field: declare it with init=False, eq=False"

    def test_open_that_fails(self, tmp_path: Path) -> None:
        """A failing `open` raises an error of penstock or an OSError, leaves nothing open, and `close` is allowed."""
        component = self.make_unopenable(tmp_path)
        if component is None:
            return
        before = Held.now(shared_memory=self.shared_memory)
        with pytest.raises((PenstockError, OSError)) as caught:
            component.open()
        assert str(caught.value), "say what could not be opened, and why"
        del caught  # its traceback holds what `open` held
        found = leaks(before, shared_memory=self.shared_memory, threads=self.threads)
        assert not found, f"open() failed and left something behind: {found}"
        component.close()
        component.close()

    def test_close_without_open(self, tmp_path: Path) -> None:
        """Closing a component that was never opened, even twice, does nothing; one with `open` has `close`."""
        component = self.make(tmp_path)
        if lacks(component, SupportsLifecycle):
            return
        component.close()
        component.close()


_name_promises(ComponentContract)
