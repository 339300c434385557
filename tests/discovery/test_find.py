"""Asking for a component: by name, by plugin and name, and the error if it is not available."""

from __future__ import annotations

import pytest

from penstock.errors import AmbiguousComponentError, ComponentLoadError, ConfigError, UnknownComponentError
from penstock.plugins import Plugins


def offering(*components: str, role: str = "store") -> str:
    """Return the source of hooks that offer these."""
    return f"@hookimpl\ndef penstock_{role}s():\n    return [{', '.join(components)}]\n"


def refused(plugins: Plugins, role: str, name: str, kind: type[Exception] = UnknownComponentError) -> str:
    """Return the one line of the error when this is loaded."""
    with pytest.raises(kind) as caught:
        plugins.load(role, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_find_by_name_and_by_qualified_name(site):
    """A component is found by its name, and by its plugin's name however that is spelled."""
    site.add("Penstock_Npy", version="0.3")
    plugins = site.discover()
    offers = [
        plugins.find("store", name) for name in ("npy", "penstock-npy:npy", "Penstock.NPY:npy", "penstock__npy:npy")
    ]
    assert {offer.qualified for offer in offers} == {"penstock-npy:npy"}
    assert offers[0].title == "store 'npy' (penstock-npy 0.3)"
    assert plugins.load("store", "penstock-npy:npy") is plugins.load("store", "npy")


def test_unknown_name_names_close_and_known_ones(site):
    """For a name that nobody offers, the error has those that are known and those that are close."""
    site.add("a", offering(*(f"Component({name!r}, 'a.b:C')" for name in ("parquet", "sqlite"))))
    said = refused(site.discover(), "store", "parkuet")
    assert "no store 'parkuet'" in said
    assert "known stores: parquet, sqlite" in said
    assert "did you mean 'parquet'?" in said
    assert "sqlite'?" not in said


def test_unknown_name_of_another_role(site):
    """If the name is one of another role, the error says of which."""
    site.add("penstock-npy")
    said = refused(site.discover(), "source", "npy")
    assert "'npy' is a store, not a source" in said
    assert "no plugin that works offers a source" in said
    assert "pip install" not in said


@pytest.mark.parametrize(
    ("role", "name", "distribution"),
    [
        ("store", "lmdb", "penstock-lmdb"),
        ("source", "zenoh", "penstock-zenoh"),
        ("decoder", "av", "penstock-kafka-av"),
        ("source", "video", "penstock-kafka-av"),
        ("store", "npy", "penstock-npy"),
        ("store", "shm", "penstock-shm"),
        ("store", "penstock-lmdb:lmdb", "penstock-lmdb"),
        ("store", "json", "penstock-npy"),
    ],
)
def test_unknown_name_says_what_to_install(site, role, name, distribution):
    """For a name that a plugin of ours would offer, the error says how to install that."""
    assert f"`pip install {distribution}`" in refused(site.discover(), role, name)


def test_unknown_name_names_the_plugin_that_failed(site):
    """If the plugin that would offer it is installed and broken, the error gives its reason, not how to get it."""
    site.add("penstock-lmdb", "raise RuntimeError('no liblmdb.so')")
    plugins = site.discover()
    for name in ("lmdb", "penstock-lmdb:lmdb"):
        said = refused(plugins, "store", name)
        assert "penstock-lmdb 1.0 is broken: raised RuntimeError: no liblmdb.so" in said
        assert "pip install" not in said


def test_unknown_name_names_all_that_may_have_offered_it(site):
    """If nothing is close to the name, every plugin that is not in use is named with its reason."""
    site.add("acme-one", "raise RuntimeError('first')")
    site.add("acme-two", group="penstock.v9")
    site.add("acme-three")
    said = refused(site.discover(without=["acme-three"]), "store", "sqlite")
    for part in ("acme-one 1.0 is broken: raised RuntimeError: first", "acme-two 1.0 is incompatible", "left out"):
        assert part in said


def test_unknown_plugin_in_a_qualified_name(site):
    """If the plugin of a qualified name is not installed, the error says so, and who else offers the name."""
    site.add("penstock-npy")
    said = refused(site.discover(), "store", "acme:npy")
    assert "no plugin 'acme' is installed" in said
    assert "did you mean 'penstock-npy:npy'?" in said


def test_two_plugins_of_one_name_are_an_error_on_use_only(site):
    """Two plugins may offer one name; only using the bare name is an error, and it says what to write."""
    site.add("acme-npy", offering("Component('npy', 'acme_npy.store:GoodStore')", "Component('own', 'a.b:C')"))
    site.add("penstock-npy")
    plugins = site.discover(strict=True)
    said = refused(plugins, "store", "npy", AmbiguousComponentError)
    assert "acme-npy 1.0 and penstock-npy 1.0" in said
    assert "'acme-npy:npy' or 'penstock-npy:npy'" in said
    assert plugins.load("store", "acme-npy:npy").__module__ == "acme_npy.store"
    assert plugins.find("store", "own").plugin == "acme-npy"
    assert [[offer.qualified for offer in offers] for offers in plugins.ambiguous()] == [
        ["acme-npy:npy", "penstock-npy:npy"]
    ]


@pytest.mark.parametrize("prefer", [["penstock_npy"], ["penstock-npy:npy"], ["none", "Penstock-Npy", "acme-npy"]])
def test_prefer_decides(site, prefer):
    """Where two plugins offer one name, the first in `prefer` wins; a qualified name still reaches the other."""
    site.add("acme-npy", offering("Component('npy', 'acme_npy.store:GoodStore')"))
    site.add("penstock-npy")
    plugins = site.discover(prefer=prefer)
    assert plugins.find("store", "npy").plugin == "penstock-npy"
    assert plugins.find("store", "acme-npy:npy").plugin == "acme-npy"
    assert plugins.ambiguous() == []


def test_names_of_different_roles_do_not_clash(site):
    """A source and a store may have the same name."""
    site.add("z", offering("Component('z', 'a.b:C')") + offering("Component('z', 'a.b:D')", role="source"))
    plugins = site.discover()
    assert plugins.find("store", "z").component.path == "a.b:C"
    assert plugins.find("source", "z").component.path == "a.b:D"


@pytest.mark.parametrize(("role", "said"), [("stores", "did you mean 'store'"), ("sink", "use source, decoder")])
def test_unknown_role(site, role, said):
    """A role that there is not is a ConfigError that names the four."""
    with pytest.raises(ConfigError, match=said):
        site.discover().find(role, "npy")


def test_name_that_is_no_text(site):
    """A name that is not a str is a ConfigError, not a crash."""
    with pytest.raises(ConfigError, match="7"):
        site.discover().find("store", 7)


LOADING = {
    "library not installed": (
        "Component('x', 'acme.heavy:Thing', requires='libheavy')",
        "import libheavy_of_acme",
        ["store 'x' (acme 1.0)", "needs 'libheavy'", "not installed", "`pip install libheavy`", "an extra of acme"],
    ),
    "library not installed, not said": (
        "Component('x', 'acme.heavy:Thing')",
        "import libheavy_of_acme.deep",
        ["needs 'libheavy_of_acme'", "`pip install libheavy_of_acme`"],
    ),
    "library that cannot be imported": (
        "Component('x', 'acme.heavy:Thing', requires='libheavy')",
        "raise ImportError('libfoo.so.3: cannot open')",
        ["'libheavy', which is installed and cannot be imported", "libfoo.so.3"],
    ),
    "module that raises": (
        "Component('x', 'acme.heavy:Thing')",
        "1 / 0",
        ["'acme.heavy' raised ZeroDivisionError: division by zero"],
    ),
    "module that raises what cannot be printed": (
        "Component('x', 'acme.heavy:Thing')",
        "class Odd(Exception):\n    def __str__(self): raise ValueError('odd')\nraise Odd",
        ["'acme.heavy' raised Odd: (its message cannot be printed)"],
    ),
    "module that exits": ("Component('x', 'acme.heavy:Thing')", "raise SystemExit(2)", ["raised SystemExit: 2"]),
    "no such module": ("Component('x', 'acme.heavi:Thing')", "", ["no module 'acme.heavi'", "--force-reinstall acme"]),
    "no such class": ("Component('x', 'acme.heavy:Thing')", "class Things: pass", ["no 'Thing'", "mean 'Things'?"]),
    "no class": ("Component('x', 'acme.heavy:Thing')", "Thing = 7", ["is a int and neither a class nor a function"]),
}


@pytest.mark.parametrize("way", LOADING)
def test_component_that_cannot_be_loaded(site, way):
    """A component that is offered and cannot be imported is an error with plugin, cause and remedy; others load."""
    component, module, parts = LOADING[way]
    site.add("acme", offering(component, "Component('good', 'acme.store:GoodStore')"))
    site.write("acme/heavy.py", module)
    plugins = site.discover(strict=True)
    said = refused(plugins, "store", "x", ComponentLoadError)
    assert [part for part in parts if part not in said] == [], said
    assert plugins.load("store", "good")


def test_ctrl_c_while_loading_is_passed_on(site):
    """KeyboardInterrupt while a component's module is imported is not turned into an error of the plugin."""
    site.add("acme", offering("Component('x', 'acme.heavy:Thing')"))
    site.write("acme/heavy.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        site.discover().load("store", "x")


def test_inner_class_is_loaded(site):
    """The part of the path after the colon may lead into a class."""
    site.add("acme", offering("Component('x', 'acme.heavy:Outer.Inner')"))
    site.write("acme/heavy.py", "class Outer:\n    class Inner: pass\n")
    assert site.discover().load("store", "x").__qualname__ == "Outer.Inner"


def test_two_discoveries_are_independent(site, tmp_path):
    """There is no registry: what one value holds does not change another."""
    site.add("penstock-npy")
    first = site.discover()
    second = Plugins.discover([str(tmp_path / "nowhere")])
    assert list(second) == []
    assert first.find("store", "npy")
    refused(second, "store", "npy")
    assert bool(second), "a value without plugins must not be taken for nothing"
