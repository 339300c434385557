"""A real broker for all tests here, with separate topics for each test."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import EndOfSource
from penstock.testing import no_leaks

SERVICES = Path(__file__).parent.parent / "services"
MADE = {"broker", "own_broker", "classic_broker", "mongo"}


def _module(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, SERVICES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Exclude the download and build of a server from the time limit of the first test."""
    for item in items:
        if MADE & set(getattr(item, "fixturenames", ())):
            given = item.get_closest_marker("timeout")
            seconds = given.args if given is not None and given.args else (120,)
            item.add_marker(pytest.mark.timeout(*seconds, func_only=True), append=False)


@pytest.fixture(scope="session")
def services() -> Callable[[str], Any]:
    """Return a function that imports a module of the directory of servers."""
    return _module


def _broker(directory: Path, **settings: Any) -> Iterator[Any]:
    cached, module = _module("cached"), _module("broker")
    try:
        made = module.Broker(directory, **settings)
    except cached.NotThere as missing:
        pytest.skip(str(missing))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A broker that all tests share."""
    yield from _broker(tmp_path_factory.mktemp("broker"))


@pytest.fixture(scope="session")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A broker that tests kill and restart."""
    yield from _broker(tmp_path_factory.mktemp("own-broker"))


@pytest.fixture(scope="session")
def classic_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A broker without the group protocol of KIP-848."""
    yield from _broker(tmp_path_factory.mktemp("classic-broker"), features="group.version=0")


@pytest.fixture(autouse=True)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test its own directory for dead letters, and check for leaks (except of a restarted broker)."""
    monkeypatch.chdir(tmp_path)
    if "own_broker" in request.fixturenames:
        yield
        return
    with no_leaks(wait_s=10.0):
        yield


@pytest.fixture
def read() -> Callable[..., list[Any]]:
    """Read from an open source until it has returned so many records, or ends."""

    def until(source: Any, count: int = 10**9, *, within_s: float = 30.0) -> list[Any]:
        records: list[Any] = []
        ends = time.monotonic() + within_s
        while len(records) < count:
            try:
                records += source.read(min(500, count - len(records)), 0.2)
            except EndOfSource:
                break
            assert time.monotonic() < ends, f"only {len(records)} of {count} records arrived"
        return records

    return until
