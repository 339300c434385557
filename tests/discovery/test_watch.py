"""Hooks that watch a run: they are called with what they ask for, and their errors stop nobody."""

from __future__ import annotations

import pytest

WATCHER = """
seen = []

@hookimpl
def penstock_run_started(nodes):
    seen.append(dict(nodes))
"""


def module_of(package: str):
    """Return the hooks module of a plugin that was found."""
    import sys

    return sys.modules[f"{package}.hooks"]


def test_watchers_are_called(site):
    """A watching hook is called with those arguments that it names."""
    package = site.add("watcher", WATCHER)
    plugins = site.discover(strict=True)
    plugins.hook.penstock_run_started(name="r", nodes={"a": "source"})
    assert module_of(package).seen == [{"a": "source"}]


@pytest.mark.parametrize("error", ["ValueError('oh')", "SystemExit(1)", "type('Panic', (BaseException,), {})"])
def test_error_of_a_watcher_stops_nobody(site, caplog, error):
    """A watcher that raises is logged once with its plugin; the caller and the other watchers do not notice."""
    packages = [site.add(name, WATCHER) for name in ("aa", "zz")]
    site.add("mm", f"@hookimpl\ndef penstock_run_started(name): raise {error}")
    plugins = site.discover(strict=True)
    for _ in range(3):
        plugins.hook.penstock_run_started(name="r", nodes={})
    assert [module_of(package).seen for package in packages] == [[{}] * 3] * 2
    (logged,) = caplog.records
    assert "plugin mm" in logged.getMessage()
    assert "penstock_run_started" in logged.getMessage()
    assert logged.exc_info


def test_ctrl_c_in_a_watcher_is_passed_on(site):
    """A KeyboardInterrupt while a watcher runs is the user's, and not logged as an error of the watcher."""
    site.add("mm", "@hookimpl\ndef penstock_run_started(name): raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        site.discover(strict=True).hook.penstock_run_started(name="r", nodes={})


def test_watchers_of_a_plugin_left_out_or_broken_are_not_called(site):
    """Of a plugin that is left out or broken no hook is called, though some of its hooks be good."""
    site.add("left", WATCHER)
    broken = site.add("half", WATCHER + "\n@hookimpl\ndef penstock_stores(): return 7\n")
    plugins = site.discover(without=["left"])
    plugins.hook.penstock_run_started(name="r", nodes={})
    assert module_of(broken).seen == []


def test_every_hook_can_be_called_without_plugins(site):
    """With no plugin at all, calling a hook does nothing."""
    assert site.discover().hook.penstock_stalled(name="r", node="n", silent_s=1.0) == []


def test_trace_says_which_hooks_ran(site, monkeypatch, capsys):
    """With PENSTOCK_TRACE=1, what was found and which plugins each hook reached is on stderr, and nothing without."""
    site.add("watcher", WATCHER)
    site.add("acme")
    site.discover().hook.penstock_run_started(name="r", nodes={})
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("PENSTOCK_TRACE", "1")
    plugins = site.discover()
    plugins.hook.penstock_run_started(name="r", nodes={"a": "store"})
    plugins.hook.penstock_stalled(name="r", node="n", silent_s=1.0)
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("penstock: trace: ") for line in lines)
    said = [line.removeprefix("penstock: trace: ") for line in lines]
    assert said == [
        "acme 1.0: importing acme.hooks",
        "acme 1.0 (acme.hooks): ok; store acme",
        "watcher 1.0: importing watcher.hooks",
        "watcher 1.0 (watcher.hooks): ok; offers nothing",
        "penstock_run_started(name='r', nodes={'a': 'store'}) -> watcher",
        "penstock_stalled(name='r', node='n', silent_s=1.0) -> no plugin",
    ]
