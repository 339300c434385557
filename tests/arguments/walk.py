"""Calls what a package exports with arguments of a wrong kind, and judges what happens."""

from __future__ import annotations

import collections.abc
import contextlib
import importlib
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from penstock.errors import PenstockError
from penstock.short_text import short

ODD: dict[str, Any] = {
    "3": 3,
    "-1": -1,
    "None": None,
    "an object": object(),
    "empty text": "",
    "a list": [],
    "a mapping": {},
    "bytes": b"",
    "nan": float("nan"),
    "inf": float("inf"),
    "a huge number": 10**5000,
    "text": "odd",
}
"""Values that are wrong for most arguments. Where one of them is right, the call may succeed."""


class Opens(BaseException):
    """Raised where something would be opened: the arguments have passed."""


def exported(package: str) -> Iterator[tuple[str, Any]]:
    """Yield the classes and functions that a package exports, by name; errors and contract tests are left out."""
    module = importlib.import_module(package)
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) and (issubclass(thing, BaseException) or name.endswith("Contract")):
            continue
        if inspect.isclass(thing) or inspect.isfunction(thing):
            yield f"{package}.{name}", thing


def arguments(call: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a call that have a name of their own."""
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each for each in inspect.signature(call).parameters.values() if each.kind not in many]


def complaint(
    call: Callable[..., Any], right: Mapping[str, Any], name: str, value: Any, *, may_fail: bool = False
) -> str | None:
    """Call with one argument of an odd value; return what is wrong with the outcome, or None.

    Args:
        call: The class, function or method.
        right: Arguments that are right.
        name: The argument that gets the odd value.
        value: The odd value.
        may_fail: Whether the call may raise any PenstockError if the value is of the right kind.
    """
    wanted = _annotation(call, name)
    given = {**right, name: value}
    positional = [given.pop(one.name) for one in arguments(call) if one.kind is one.POSITIONAL_ONLY]
    try:
        made = call(*positional, **given)
    except PenstockError as error:
        text = str(error)
        is_clear = name in text or short(value) in text
        is_right = may_fail and _fits(value, wanted)
        return None if is_clear or is_right else f"names neither argument nor value: {type(error).__name__}: {text}"
    except Opens:
        made = None
    except AssertionError:
        return None if name in ("expected", "actual") else "bare AssertionError"
    except OSError as error:  # the path is of the right kind, but there is no such file
        return None if error.filename == str(value) or value == "" else f"bare OSError: {error}"
    except Exception as error:
        return f"bare {type(error).__name__}: {str(error)[:200]}"
    if hasattr(made, "close"):
        with contextlib.suppress(Exception):  # what was made of an object without `close` cannot be closed
            made.close()
    return None if _fits(value, wanted) else f"accepted, though it is annotated {wanted}"


def _annotation(call: Callable[..., Any], name: str) -> Any:
    """Return the annotation of an argument; Any where it cannot be resolved, or a converter makes the field."""
    if inspect.isclass(call) and attrs.has(call):
        field = {field.alias: field for field in attrs.fields(call) if field.init}.get(name)
        if field is None:  # a class with an __init__ of its own
            return Any
        takes_it = field.converter is None or field.converter.__module__ == "penstock.validators"
        return _hints(call).get(field.name, Any) if takes_it else Any
    return _hints(call.__init__ if inspect.isclass(call) else call).get(name, Any)


def _hints(thing: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(getattr(thing, "__func__", thing)))
    except NameError:  # a name that is imported for type checkers alone
        return {}


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value is of an annotated kind; True for kinds that cannot be judged at a glance."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(kind))
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    if origin is collections.abc.Callable:
        return callable(value)
    if kind is None or kind is type(None):
        return value is None
    plain = origin or kind
    if plain is Any or not inspect.isclass(plain) or getattr(plain, "_is_protocol", False):
        return True
    if plain is float:
        return isinstance(value, (int, float))
    if issubclass(plain, os.PathLike):
        return isinstance(value, (str, os.PathLike))
    return isinstance(value, (list, tuple) if plain in (list, tuple) else plain)
