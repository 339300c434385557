"""Run hooks of plugins: their errors stop neither the run nor other hooks."""

from __future__ import annotations

import functools
import os
import reprlib
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from penstock import hookspecs
from penstock.plugins.examine import OFFERING, Hook
from penstock.plugins.report import PluginReport


def new_manager() -> pluggy.PluginManager:
    """Return a manager that knows the hooks; with PENSTOCK_TRACE set it prints on stderr which ones run."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    if is_traced():
        manager.add_hookcall_monitoring(_before, _after)
    return manager


def is_traced() -> bool:
    """Return whether the user wants a trace of hook calls."""
    return os.environ.get("PENSTOCK_TRACE", "") not in ("", "0")


def trace(text: str) -> None:
    """Print one line of the trace."""
    print(f"penstock: trace: {text}", file=sys.stderr, flush=True)


def watch(manager: pluggy.PluginManager, report: PluginReport, hooks: Mapping[str, Hook]) -> None:
    """Register the run hooks of a plugin with the manager."""
    plugin = report.name if manager.get_plugin(report.name) is None else f"{report.name}:{report.entry}"
    guarded = types.ModuleType(plugin)
    for name, function in hooks.items():
        if name not in OFFERING:
            setattr(guarded, name, _guard(function, plugin=plugin, hook=name))
    manager.register(guarded, plugin)


def _guard(function: Hook, *, plugin: str, hook: str) -> Hook:
    """Return a function that never raises: the first error is logged with its traceback, the others are not."""
    is_silent = False

    @functools.wraps(function)
    def guarded(*args: Any) -> None:
        nonlocal is_silent
        try:
            function(*args)
        except KeyboardInterrupt:
            raise
        except BaseException:  # a hook must not stop the run, not even by sys.exit or a panic of its library
            if not is_silent:
                is_silent = True
                import logging  # here, since listing must stay light

                logging.getLogger(__name__).exception(
                    "plugin %s: hook %s raised; the run continues, and later errors of this hook are not shown",
                    plugin,
                    hook,
                )

    return guarded


def _before(hook: str, implementations: Sequence[pluggy.HookImpl], arguments: Mapping[str, Any]) -> None:
    given = ", ".join(f"{name}={reprlib.repr(value)}" for name, value in arguments.items())
    called = ", ".join(each.plugin_name for each in reversed(implementations))
    trace(f"{hook}({given}) -> {called or 'no plugin'}")


def _after(
    outcome: pluggy.Result[Any], hook: str, implementations: Sequence[pluggy.HookImpl], arguments: Mapping[str, Any]
) -> None:
    """Do nothing: run hooks return nothing, and their errors are logged."""
