"""Addresses: the import path and the settings with which a file describes a component that was given as an object."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterable
from typing import Any

import attrs

from penstock.compose.making import settings_of


def path_of(thing: Any) -> str | None:
    """Return "module:name" if this function or class can be imported by it, else None."""
    return None if why_no_path(thing) else f"{thing.__module__}:{thing.__qualname__}"


def why_no_path(thing: Any) -> str:
    """Return why a function or class cannot be imported by a name, or ""."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if isinstance(thing, types.MethodType) and not isinstance(thing.__self__, type):
        return f"it is a method of an object, a {type(thing.__self__).__qualname__}"
    if not module or not name:
        return f"it is an object of type {type(thing).__qualname__}, which has no name in a module"
    if name.endswith("<lambda>"):
        return "it is a lambda"
    if "<locals>" in name:
        return f"it is defined inside a function ({name})"
    if module == "__main__":
        return "it is defined in __main__, the script or notebook that runs"
    found: Any = sys.modules.get(module)
    try:
        for step in name.split("."):
            found = getattr(found, step)
    except AttributeError:
        return f"module {module} has no {name}"
    if found is not thing and found != thing:  # each access to a class's method returns a new object
        return f"{module}:{name} is another object (a decorator has put it in its place, perhaps)"
    return ""


def address_of(given: Any) -> tuple[str, dict[str, Any]] | None:
    """Return the import path and the settings from which a file or another process can make this object, or None."""
    owner, settings = _owner_of(given)
    path = None if settings is None else path_of(owner)
    return None if path is None or settings is None else (path, settings)


def why_no_address(given: Any) -> str:
    """Return why a file cannot name this object, or ""."""
    owner, settings = _owner_of(given)
    if settings is None and isinstance(given, Iterable) and not hasattr(given, "read"):
        return f"it is a {type(given).__qualname__} of this program, and a file holds no data"
    reason = why_no_path(owner)
    if not reason and settings is None:
        return f"{type(given).__qualname__} is neither an attrs class nor a dataclass, so its settings are unknown"
    return reason


def _owner_of(given: Any) -> tuple[Any, dict[str, Any] | None]:
    """Return the function or class to import, and the settings to call it with, or None if they are unknown."""
    if isinstance(given, functools.partial) and isinstance(given.func, types.FunctionType) and not given.args:
        return given.func, dict(given.keywords)
    if isinstance(given, type) or hasattr(given, "__qualname__"):
        return given, {}
    settings = settings_of(given)
    if settings is None:
        return type(given), None
    return type(given), {name: value for name, value in settings.items() if not _is_default(given, name, value)}


def _is_default(given: Any, name: str, value: Any) -> bool:
    import dataclasses

    default: Any
    if attrs.has(type(given)):
        [field] = [each for each in attrs.fields(type(given)) if (each.alias or each.name) == name]
        default = field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, though typed as a function
            default = default.factory(given) if default.takes_self else default.factory()
    else:
        default = given.__dataclass_fields__[name].default
        factory = given.__dataclass_fields__[name].default_factory
        if factory is not dataclasses.MISSING:
            default = factory()
    try:
        return bool(value == default)
    except Exception:  # arrays, and whatever else has a comparison of its own
        return False
