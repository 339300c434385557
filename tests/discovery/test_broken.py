"""Each way to be broken is reported with its reason, and the other plugins still work."""

from __future__ import annotations

import pytest

from penstock.component import Component
from penstock.errors import PluginError
from penstock.plugins import PluginReport, Plugins

OFFER = 'Component("thing", "bad.store:Thing")'

IN_HOOKS = {
    "import error": ("raise RuntimeError('no\\nlicence')", ["raised RuntimeError: no licence"]),
    "syntax error": ("def (", ["SyntaxError"]),
    "missing library": (
        "import libmissing.deep",
        ["needs the module 'libmissing'", "neither installed", "nor among its requirements", "write to its authors"],
    ),
    "wrong name of a library": ("from penstock.component import Componet", ["ImportError", "Componet"]),
    "sys.exit": ("import sys; sys.exit(3)", ["called sys.exit(3)"]),
    "an error that cannot be printed": (
        "class Odd(Exception):\n    def __str__(self): raise ValueError('odd')\nraise Odd",
        ["raised Odd: (its message cannot be printed)"],
    ),
    "an error without end": ("raise RuntimeError('no ' * 10**5)", ["raised RuntimeError: no no", "no…"]),
    "panic": ("class Panic(BaseException): pass\nraise Panic('rust')", ["raised Panic: rust"]),
    "endless recursion": ("def f(): f()\nf()", ["RecursionError"]),
    "misspelt, marked": (
        "@hookimpl\ndef penstock_store(): return []",
        ["no hook 'penstock_store'", "did you mean 'penstock_stores'?"],
    ),
    "misspelt, not marked": (
        "def penstock_sorces(): return []",
        ["'penstock_sorces'", "did you mean 'penstock_sources'?"],
    ),
    "mark forgotten": ("def penstock_stores(): return []", ["'penstock_stores' has no mark", "@hookimpl"]),
    "mark of another project": (
        "import pluggy\n@pluggy.HookimplMarker('penstok')\ndef penstock_stores(): return []",
        ["'penstock_stores' has no mark"],
    ),
    "not a function": (
        "import functools\npenstock_stores = functools.partial(list)",
        ["'penstock_stores' is a partial, not a function"],
    ),
    "no hooks": ("x = 1", ["has no hook", "penstock_stores"]),
    "same hook twice": (
        "@hookimpl\ndef penstock_stores(): return []\n@hookimpl(specname='penstock_stores')\ndef more(): return []",
        ["'penstock_stores' is defined twice"],
    ),
    "async hook": ("@hookimpl\nasync def penstock_stores(): return []", ["is async"]),
    "wrapper": ("@hookimpl(wrapper=True)\ndef penstock_stores(): return (yield)", ["is a wrapper"]),
    "argument too many": (
        "@hookimpl\ndef penstock_stores(config): return []",
        ["takes nothing", "'config'", "leave it out"],
    ),
    "argument misspelt": (
        "@hookimpl\ndef penstock_checkpoint(name, position): pass",
        ["takes name, positions", "did you mean 'positions'?"],
    ),
    "keyword-only argument": ("@hookimpl\ndef penstock_checkpoint(*, name): pass", ["by position", "'name'"]),
    "offer raises": ("@hookimpl\ndef penstock_stores(): return 1 / 0", ["raised ZeroDivisionError"]),
    "generator raises": (
        f"@hookimpl\ndef penstock_stores():\n    yield {OFFER}\n    raise OSError('gone')",
        ["raised OSError: gone"],
    ),
    "offer exits": ("@hookimpl\ndef penstock_stores(): raise SystemExit", ["called sys.exit(None)"]),
    "offers None": ("@hookimpl\ndef penstock_stores(): pass", ["returned None", "iterable of Component"]),
    "offers text": ("@hookimpl\ndef penstock_stores(): return 'npy'", ["returned 'npy' (str)"]),
    "offers one, not a list": (f"@hookimpl\ndef penstock_stores(): return {OFFER}", ["returned Component("]),
    "offers what cannot be printed": (
        "class Odd:\n    def __repr__(self): raise ValueError('odd')\n@hookimpl\ndef penstock_stores(): return [Odd()]",
        ["raised ValueError: odd"],
    ),
    "offers a class": ("@hookimpl\ndef penstock_stores(): return [dict]", ["<class 'dict'>", "not a Component"]),
    "offers a bad name": (
        "@hookimpl\ndef penstock_stores(): return [Component('My Store', 'a.b:C')]",
        ["raised ConfigError", "'My Store'"],
    ),
    "offers a bad path": ("@hookimpl\ndef penstock_stores(): return [Component('a', 'a.b.C')]", ["'a.b.C'"]),
    "offers a name twice": (f"@hookimpl\ndef penstock_stores(): return [{OFFER}, {OFFER}]", ["offers 'thing' twice"]),
    "offers without end": (
        "import itertools\n@hookimpl\ndef penstock_stores():\n"
        "    return (Component(f's{n}', 'a.b:C') for n in itertools.count())",
        ["without end"],
    ),
}


def look_at(plugins: Plugins, name: str = "penstock-bad") -> PluginReport:
    """Return the report of the plugin in question, after making sure that its neighbours work."""
    assert [plugins.find("store", good).plugin for good in ("aaa", "zzz")] == ["penstock-aaa", "penstock-zzz"]
    assert plugins.load("store", "zzz").__name__ == "GoodStore"
    assert [report.name for report in plugins] == sorted(report.name for report in plugins)
    (report,) = [report for report in plugins if report.name == name]
    return report


@pytest.fixture(autouse=True)
def neighbours(site):
    """Install a good plugin on either side."""
    site.add("penstock-aaa")
    site.add("penstock-zzz")


@pytest.mark.parametrize("way", IN_HOOKS)
def test_broken_hooks_are_reported(site, way):
    """Whatever a plugin's hooks do wrong is in its report in one line, it offers nothing, and its neighbours work."""
    source, said = IN_HOOKS[way]
    site.add("penstock-bad", source)
    report = look_at(site.discover())
    assert report.status == "broken"
    assert not report.components
    assert "\n" not in report.reason
    assert len(report.reason) < 1000
    assert [part for part in said if part not in report.reason] == [], report.reason


def test_traceback_is_kept_without_the_frames_of_importing(site):
    """The report of a plugin that raises has its traceback, which begins in the plugin."""
    site.add("penstock-bad", "def f():\n    raise RuntimeError('inside')\nf()")
    traceback = look_at(site.discover()).traceback
    assert "RuntimeError: inside" in traceback
    assert "in f" in traceback
    assert "importlib" not in traceback
    assert "examine.py" not in traceback


METADATA = {
    "another contract": (
        {"group": "penstock.v2", "hooks": "raise AssertionError('imported')"},
        "incompatible",
        ["contract v2", "speaks v1"],
    ),
    "a later penstock": (
        {"requires": ("penstock>=0.2",), "hooks": "raise AssertionError('imported')"},
        "incompatible",
        ["needs penstock >=0.2", "this is 0.1.0"],
    ),
    "a later penstock, with an extra": (
        {"requires": ("penstock[testing] (>=0.2)",)},
        "incompatible",
        ["this is 0.1.0"],
    ),
    "a missing distribution": (
        {"requires": ("penstock<0.2,>=0.1", "no-such-library>=3"), "hooks": "raise AssertionError('imported')"},
        "broken",
        ["needs no-such-library", "pip install penstock-bad"],
    ),
    "a distribution of another version": (
        {"requires": ("libthing >=2, <3",), "hooks": "raise AssertionError('imported')"},
        "broken",
        [
            "needs libthing >=2, <3",
            "there is 1.4",
            "pip install 'libthing>=2, <3'",
            "penstock-bad for the installed one",
        ],
    ),
    "a missing distribution for this Python": (
        {"requires": ("no-such-library; python_version >= '3'",)},
        "broken",
        ["needs no-such-library"],
    ),
    "entry point to no module": (
        {"entry": "[penstock.v1]\nmain = penstock_bad.hoks\n"},
        "broken",
        ["'main'", "no module 'penstock_bad.hoks'"],
    ),
    "entry point to no package": ({"entry": "[penstock.v1]\nx = nowhere_bad.hooks\n"}, "broken", ["'nowhere_bad'"]),
    "entry point to an object": (
        {"entry": "[penstock.v1]\nmain = penstock_bad.hooks:plugin\n"},
        "broken",
        ["penstock_bad.hooks:plugin", "name a module"],
    ),
    "entry point to nonsense": ({"entry": "[penstock.v1]\nmain = what is this?\n"}, "broken", ["name a module"]),
    "entry points that cannot be read": ({"entry": "[penstock.v1]\nmain\n"}, "broken", ["entry_points.txt"]),
    "group misspelt": ({"group": "penstock_v1"}, "broken", ["'penstock_v1'", "did you mean 'penstock.v1'?"]),
    "group without a number": ({"group": "penstock.plugins"}, "broken", ["did you mean 'penstock.v1'?"]),
}


@pytest.mark.parametrize("way", METADATA)
def test_broken_metadata_is_reported(site, way):
    """A plugin that cannot work by what its metadata says is reported without being imported."""
    how, status, said = METADATA[way]
    site.metadata("penstock", "0.1.0", "")
    site.metadata("libthing", "1.4", "")
    site.add("penstock-bad", **how)
    report = look_at(site.discover())
    assert report.status == status
    assert [part for part in said if part not in report.reason] == [], report.reason


@pytest.mark.parametrize(
    "requires",
    [
        ("penstock>=0.1,<0.2",),
        ("penstock ~=0.1.0",),
        ("penstock; python_version >= '3'",),
        ("no-such-library; extra == 'test'",),
        ("no-such-library; python_version < '3'",),
        ("no-such-library>=1 ; extra == 'test' and python_version >= '3'",),
        ("this is ; not a requirement",),
        ("libthing>=1.4,<2", "LibThing~=1.4.0"),
        ("libthing[fast]>=1; python_version >= '3'",),
        ("libodd>=3",),
    ],
)
def test_met_requirements_are_no_problem(site, requires):
    """Requirements that are met, hold elsewhere, belong to an extra or cannot be compared do not hinder a plugin."""
    site.metadata("penstock", "0.1.0", "")
    site.metadata("libthing", "1.4.1.dev2+local", "")
    site.metadata("libodd", "of-the-distribution", "")
    site.add("penstock-bad", requires=requires)
    assert look_at(site.discover()).status == "ok"


def test_development_version_of_penstock_meets_its_range(site):
    """A plugin for penstock 0.1 works with a development version of 0.1.1."""
    site.metadata("penstock", "0.1.1.dev3+g1234", "")
    site.add("penstock-bad", requires=("penstock>=0.1,<0.2",))
    assert look_at(site.discover()).status == "ok"


def test_plugin_for_two_contracts_is_used_for_ours(site):
    """A distribution with an entry point for this contract and one for a later is used, and not called incompatible."""
    site.add("penstock-bad", entry="[penstock.v1]\na = penstock_bad.hooks\n[penstock.v2]\na = penstock_bad.no\n")
    assert look_at(site.discover()).status == "ok"


def test_hooks_of_a_later_penstock_may_be_marked_optional(site):
    """A hook that this penstock does not know is not a mistake if it is marked `optionalhook`."""
    site.add("penstock-bad", "@hookimpl(optionalhook=True)\ndef penstock_weather(): pass\n@hookimpl\n"
             "def penstock_stores(): return []")  # fmt: skip
    assert look_at(site.discover()).status == "ok"


def test_hook_specification_may_be_imported(site):
    """A plugin that imports a hook to look at it has not forgotten a mark."""
    site.add(
        "penstock-bad",
        "from penstock.hookspecs import penstock_sources\n@hookimpl\ndef penstock_stores(): return iter(())",
    )
    assert look_at(site.discover()).status == "ok"


def test_two_copies_on_the_path_are_one_plugin(site, tmp_path, monkeypatch):
    """Of a distribution that is in two directories the first on the path is used, and the other is named."""
    site.add("penstock-bad", version="2.0")
    other = type(site)(tmp_path / "other")
    other.add("Penstock.Bad", version="1.0")
    plugins = Plugins.discover([str(site.root), str(other.root), str(site.root)])
    assert [(r.version, r.status) for r in plugins if r.name == "penstock-bad"] == [("2.0", "ok"), ("1.0", "left out")]
    assert "comes before it" in next(r for r in plugins if r.status == "left out").reason
    assert plugins.find("store", "bad").version == "2.0"


def test_two_versions_in_one_directory_are_named(site):
    """Leftovers of an earlier version in the same directory are reported as broken; the newest is used."""
    site.add("penstock-bad", version="0.9")
    site.metadata("penstock-bad", "0.10", "[penstock.v1]\nmain = penstock_bad.hooks\n")
    plugins = site.discover()
    assert plugins.find("store", "bad").version == "0.10"
    (twice,) = [report for report in plugins if report.status == "broken"]
    assert twice.version == "0.9"
    assert "installed twice" in twice.reason


def test_entry_points_of_one_distribution_do_not_repeat_a_name(site):
    """Where two entry points of one distribution offer the same name, the second is broken and the first works."""
    site.add("penstock-bad", entry="[penstock.v1]\na = penstock_bad.hooks\nb = penstock_bad.more\n")
    site.write("penstock_bad/more.py", (site.root / "penstock_bad/hooks.py").read_text())
    plugins = site.discover()
    assert [(r.entry, r.status) for r in plugins if r.name == "penstock-bad"] == [("a", "ok"), ("b", "broken")]
    assert plugins.find("store", "bad").qualified == "penstock-bad:bad"


def test_distribution_without_a_name_is_reported(site):
    """What is left of a half-removed distribution is reported rather than raised."""
    site.write("penstock_rest-1.0.dist-info/entry_points.txt", "[penstock.v1]\nmain = penstock_rest.hooks\n")
    assert look_at(site.discover(), "(no name)").status == "broken"


def test_other_distributions_are_not_our_business(site):
    """Distributions without an entry point of ours are not in the report, whatever their metadata looks like."""
    site.metadata("numpi", "1", "[console_scripts]\npenstock-helper = numpi:main\n")
    site.metadata("weird", "1", "[penstock_of_another_kind]\nx\n")
    (site.root / "bin-1.dist-info").mkdir()
    (site.root / "bin-1.dist-info/entry_points.txt").write_bytes(b"\xff\xfe penstock")
    assert [report.name for report in site.discover()] == ["penstock-aaa", "penstock-zzz"]


def test_strict_raises_and_names_every_failure(site):
    """With `strict`, broken and incompatible plugins are one error that names them all."""
    site.add("penstock-bad", "raise RuntimeError('a')")
    site.add("penstock-new", group="penstock.v3")
    with pytest.raises(PluginError, match=r"penstock-bad 1\.0 is broken.*penstock-new 1\.0 is incompatible"):
        site.discover(strict=True)
    assert site.discover(strict=True, without=["penstock-bad", "penstock-new"]).find("store", "aaa")


@pytest.mark.parametrize("name", ["penstock-bad", "Penstock_Bad", " penstock.bad "])
def test_without_leaves_out_unseen(site, monkeypatch, name):
    """What the user leaves out, by argument or environment, however spelled, is reported and not imported."""
    site.add("penstock-bad", "raise KeyboardInterrupt")
    assert look_at(site.discover(without=[name])).status == "left out"
    monkeypatch.setenv("PENSTOCK_WITHOUT", f"x,{name}")
    assert look_at(site.discover()).status == "left out"


def test_without_star_leaves_only_penstock(site, monkeypatch):
    """PENSTOCK_WITHOUT=* leaves all out but what came with penstock itself."""
    site.metadata("penstock", "0.1.0", "[penstock.v1]\npenstock = penstock_aaa.hooks\n")
    monkeypatch.setenv("PENSTOCK_WITHOUT", "*")
    plugins = site.discover()
    assert {r.name: r.status for r in plugins} == {
        "penstock": "ok",
        "penstock-aaa": "left out",
        "penstock-zzz": "left out",
    }


def test_order_is_that_of_names(site):
    """Reports and offers are sorted by name, whatever the order on the disk or of the offers."""
    site.add("penstock-mmm", "@hookimpl\ndef penstock_stores(): return [Component(n, 'a.b:C') for n in ('zz', 'bb')]")
    plugins = site.discover()
    assert [offer.component.name for offer in plugins.components("store")] == ["aaa", "bb", "zz", "zzz"]
    mine = next(report for report in plugins if report.name == "penstock-mmm")
    assert mine.components == {"store": (Component("zz", "a.b:C"), Component("bb", "a.b:C"))}
