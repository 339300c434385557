"""Each distribution is a wheel that installs alone, and extras bring the plugins that they name."""

from __future__ import annotations

import email
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from .conftest import DISTRIBUTIONS, ROOT, Environment

IMPORTS = {name: name.replace("plugin-", "penstock_").replace("-", "_") for name in DISTRIBUTIONS} | {
    "core": "penstock"
}
DISTRIBUTION = {name: name.replace("plugin-", "penstock-") for name in DISTRIBUTIONS} | {"core": "penstock"}


def wheel_of(wheels: Path, name: str) -> Path:
    """Return the one wheel of this distribution."""
    (wheel,) = wheels.glob(f"{IMPORTS[name]}-*.whl")
    return wheel


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_holds_its_package_and_nothing_else(wheels: Path, name: str) -> None:
    """A wheel holds one import package, typed and with its licence, and no tests."""
    with zipfile.ZipFile(wheel_of(wheels, name)) as wheel:
        files = wheel.namelist()
    packages = {file.partition("/")[0] for file in files if ".dist-info/" not in file}
    assert packages == {IMPORTS[name]}
    assert f"{IMPORTS[name]}/py.typed" in files
    assert any(".dist-info/" in file and file.endswith("LICENSE") for file in files)
    assert not [file for file in files if "/tests/" in file]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_says_what_it_is(wheels: Path, name: str) -> None:
    """A wheel's metadata has a summary, a readme, a licence and the Python that it needs."""
    with zipfile.ZipFile(wheel_of(wheels, name)) as wheel:
        (path,) = [file for file in wheel.namelist() if file.endswith(".dist-info/METADATA")]
        metadata = email.message_from_string(wheel.read(path).decode())
    assert metadata["Name"] == DISTRIBUTION[name]
    assert metadata["Summary"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert DISTRIBUTION[name] in metadata.get_payload()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_licence_is_the_same_everywhere(name: str) -> None:
    """Every distribution carries the workspace's licence, word for word."""
    directory = ROOT / ("core" if name == "core" else f"plugins/{name}")
    assert (directory / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_distribution_installs_alone(
    make_environment: Callable[[Sequence[str]], Environment], wheels: Path, name: str
) -> None:
    """In an empty environment, one wheel brings the core at most, imports, and `penstock plugins` calls it sound.

    The demo is an application: it brings the four plugins that it shows.
    """
    environment = make_environment([str(wheel_of(wheels, name))])
    ours = {found for found in environment.distributions() if found.startswith("penstock")}
    shown = (
        {f"penstock-{plugin}" for plugin in ("kafka-av", "lmdb", "npy", "zenoh")} if name == "plugin-demo" else set()
    )
    assert ours == {"penstock", DISTRIBUTION[name]} | shown
    environment.run("python", "-W", "error", "-c", f"import {IMPORTS[name]}")
    if name == "plugin-demo":
        assert "penstock demo" in environment.run("penstock", "demo", "--help").stdout
    else:
        assert DISTRIBUTION[name] in environment.run("penstock", "plugins").stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_extras_bring_the_plugins_they_name(make_environment: Callable[[Sequence[str]], Environment]) -> None:
    """`pip install "penstock[zenoh,npy]"` installs the core and these two plugins, and no other."""
    environment = make_environment(["penstock[zenoh,npy]"])
    ours = {found for found in environment.distributions() if found.startswith("penstock")}
    assert ours == {"penstock", "penstock-npy", "penstock-zenoh"}
    listed = environment.run("penstock", "plugins", "--json").stdout
    assert "penstock-zenoh" in listed
    assert "penstock-npy" in listed
