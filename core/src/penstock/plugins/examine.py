"""Examine one plugin: import its hooks and check them against the contract, isolating its errors."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import attrs

from penstock import hookspecs
from penstock.component import ROLES, Component
from penstock.errors import PluginError
from penstock.plugins.explain import message_line
from penstock.plugins.report import PluginReport
from penstock.suggestions import nearest

Hook = Callable[..., Any]
OFFERING = {f"{hookspecs.PROJECT}_{role}s": role for role in ROLES}
"""The hooks that offer components, and the role of their components."""

SLOW_S = 1.0
"""Seconds of import above which the report has a remark."""

ENDLESS_S = 5.0
"""Seconds of import after which a warning is logged while it lasts."""

_PREFIX = f"{hookspecs.PROJECT}_"
_MARK = f"{hookspecs.PROJECT}_impl"
_MOST_OFFERS = 10_000


@functools.cache
def hook_parameters() -> Mapping[str, tuple[str, ...]]:
    """Return the names of all hooks, each with those of its parameters."""
    return {
        name: tuple(inspect.signature(function).parameters)
        for name, function in vars(hookspecs).items()
        if inspect.isfunction(function) and hasattr(function, f"{hookspecs.PROJECT}_spec")
    }


def examine(report: PluginReport) -> tuple[PluginReport, dict[str, Hook]]:
    """Import the hooks of a plugin, call those that offer components, and return its report and its hooks.

    Never raises an error of the plugin, except KeyboardInterrupt, to which a note is added that names the
    plugin. The hooks of a broken plugin are not returned: a plugin is used as a whole, or not at all.
    """
    started = time.perf_counter()
    is_new = report.module not in sys.modules
    import_s = 0.0
    try:
        with _named_if_endless(report):
            module = _import(report)
            import_s = time.perf_counter() - started if is_new else 0.0
            hooks = _hooks(module)
            components = {OFFERING[name]: _offers(name, hooks[name]) for name in sorted(hooks) if name in OFFERING}
    except KeyboardInterrupt as error:
        error.add_note(f"while importing plugin {report.title}; PENSTOCK_WITHOUT={report.name} leaves it out")
        raise
    except PluginError as error:
        text = "" if error.__cause__ is None else _traceback(error.__cause__)
        return attrs.evolve(report, status="broken", reason=str(error), traceback=text, import_s=import_s), {}
    except BaseException as error:  # a plugin must not end the program, not even by sys.exit or a panic of its library
        import_s = import_s or (time.perf_counter() - started if is_new else 0.0)
        reason = _why(error, report)
        return attrs.evolve(report, status="broken", reason=reason, traceback=_traceback(error), import_s=import_s), {}
    remark = ""
    if import_s > SLOW_S:
        remark = f"importing its hooks took {import_s:.1f} s; they should import penstock and nothing else"
    components = {role: components[role] for role in ROLES if components.get(role)}
    return attrs.evolve(report, components=components, import_s=import_s, reason=remark), hooks


def _import(report: PluginReport) -> types.ModuleType:
    try:
        return importlib.import_module(report.module)
    except ModuleNotFoundError as error:
        if error.name and f"{report.module}.".startswith(f"{error.name}."):
            raise PluginError(
                f"its entry point {report.entry!r} leads to {report.module!r}, and there is no module {error.name!r}; "
                f"install it again, or correct the entry point"
            ) from error
        raise


def _hooks(module: types.ModuleType) -> dict[str, Hook]:
    """Return the implementations in a module by the name of their hook. Raises PluginError for the first mistake."""
    known = hook_parameters()
    hooks: dict[str, Hook] = {}
    for name, thing in sorted(vars(module).items()):
        if inspect.isfunction(thing) and hasattr(thing, _MARK):
            options = getattr(thing, _MARK)
            hook = options.get("specname") or name
            if hook not in known and options.get("optionalhook"):
                continue  # the plugin also supports a later penstock
            if hook not in known:
                raise PluginError(f"there is no hook {hook!r}; {_did_you_mean(hook, known)}")
            if options.get("wrapper") or options.get("hookwrapper"):
                raise PluginError(f"hook {hook!r} is a wrapper; write a plain function instead")
            if hook in hooks:
                raise PluginError(f"hook {hook!r} is defined twice; join the two functions")
            _check_parameters(hook, thing, known[hook])
            hooks[hook] = thing
        elif name.startswith(_PREFIX) and callable(thing) and not inspect.isclass(thing):
            _check_unmarked(name, thing, module, known)
    if not hooks:
        raise PluginError(f"module {module.__name__!r} has no hook; define one of {', '.join(OFFERING)} with @hookimpl")
    return hooks


def _check_unmarked(name: str, thing: object, module: types.ModuleType, known: Mapping[str, object]) -> None:
    if hasattr(thing, f"{hookspecs.PROJECT}_spec"):
        return  # the hook specification itself, imported for reference
    if name in known:
        what = "has no mark" if inspect.isfunction(thing) else f"is a {type(thing).__name__}, not a function"
        raise PluginError(f"{name!r} {what}; define it with @hookimpl from penstock.hookspecs above it")
    if getattr(thing, "__module__", None) == module.__name__:
        raise PluginError(
            f"{name!r} is not a hook, and names that start with {_PREFIX!r} are reserved for hooks; "
            f"{_did_you_mean(name, known)}"
        )


def _check_parameters(hook: str, function: Hook, allowed: tuple[str, ...]) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(f"hook {hook!r} is async; write a plain function")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        if parameter.name not in allowed:
            takes = f"takes {', '.join(allowed)}" if allowed else "takes nothing"
            close = nearest(parameter.name, allowed)
            advice = f"did you mean {close[0]!r}?" if close else "leave it out"
            raise PluginError(f"hook {hook!r} {takes}, and this one has the parameter {parameter.name!r}; {advice}")
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise PluginError(f"hook {hook!r} is called by position; remove the '*' before {parameter.name!r}")


def _offers(hook: str, function: Hook) -> tuple[Component, ...]:
    answer = function()
    if isinstance(answer, (str, bytes)) or not hasattr(answer, "__iter__"):
        raise PluginError(f"hook {hook!r} returned {_short(answer)}; return an iterable of Component")
    components: dict[str, Component] = {}
    offers = list(islice(answer, _MOST_OFFERS + 1))
    if len(offers) > _MOST_OFFERS:
        raise PluginError(f"hook {hook!r} offers more than {_MOST_OFFERS} components, perhaps without end")
    for component in offers:
        if not isinstance(component, Component):
            advice = "return Component('npy', 'penstock_npy.store:NpyStore') for each"
            raise PluginError(f"hook {hook!r} offers {_short(component)}, which is not a Component; {advice}")
        if component.name in components:
            raise PluginError(f"hook {hook!r} offers {component.name!r} twice; give each component a name of its own")
        components[component.name] = component
    return tuple(components.values())


def _why(error: BaseException, report: PluginReport) -> str:
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r}) on import; write to its authors"
    if isinstance(error, ModuleNotFoundError):
        return (
            f"needs the module {error.name!r}, which is neither installed nor among its requirements; "
            "install it, or write to its authors"
        )
    message = message_line(error)
    return f"raised {type(error).__name__}{f': {message}' if message else ''}"


def _did_you_mean(name: str, known: Mapping[str, object]) -> str:
    close = nearest(name, known)
    return f"did you mean {close[0]!r}?" if close else f"the hooks are {', '.join(known)}"


def _short(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _traceback(error: BaseException) -> str:
    """Return the traceback without the frames that every import has."""
    trace = traceback.TracebackException.from_exception(error)
    trace.stack = traceback.StackSummary.from_list(
        [f for f in trace.stack if not (f.filename.startswith("<frozen importlib") or f.filename in _OUR_FRAMES)]
    )
    return "".join(trace.format())


_OUR_FRAMES = (__file__, importlib.__file__)


@contextlib.contextmanager
def _named_if_endless(report: PluginReport) -> Iterator[None]:
    """Log a warning if the block still runs after ENDLESS_S seconds, so that a waiting user knows the cause."""
    timer = threading.Timer(ENDLESS_S, _warn_endless, (report,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _warn_endless(report: PluginReport) -> None:
    import logging  # imported here: listing must stay light

    logging.getLogger(__name__).warning(
        "plugin %s: importing %s still runs after %g s; PENSTOCK_WITHOUT=%s leaves it out",
        report.title,
        report.module,
        ENDLESS_S,
        report.name,
    )
