"""Checks of the arguments of public functions and classes, derived from their annotations."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import PurePath
from typing import Any, TypeVar

import attrs

from penstock.errors import ConfigError
from penstock.short_text import short
from penstock.suggestions import close_to, suggests_keywords
from penstock.validators import is_number, without_numpy

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen
class _Kind:
    """A kind of value: its name in a message ("a whole number"), and the function that recognizes it."""

    text: str
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


def checks_arguments(public: F) -> F:
    """Make a function or class refuse arguments whose kind is not that of its annotation, with a ConfigError.

    The message names argument, value and remedy. An unknown keyword is an UnknownOptionError, with the nearest one.
    Defaults are not checked. An annotation that does not tell a kind (Any, a protocol) allows every value. A field of
    attrs with a validator or converter of its own is left to it; of converters, those to paths are checked here.
    Scalars of numpy count as those of Python. The annotations are read at the first call; classes that are imported
    for type checkers alone are recognized by name.
    """
    return checks_arguments_besides()(public)


def checks_arguments_besides(*names: str) -> Callable[[F], F]:
    """Return `checks_arguments` without those arguments that the function checks itself, more closely."""

    def checks(public: F) -> F:
        if inspect.isclass(public):
            cls: Any = public
            cls.__init__ = _checked(cls.__init__, cls, names)
            return public
        return typing.cast(F, _checked(public, None, names))

    return checks


def _checked(function: Callable[..., Any], cls: type | None, besides: Collection[str]) -> Callable[..., Any]:
    @functools.cache
    def known() -> tuple[list[tuple[str, _Kind | None]], tuple[str, _Kind] | None, dict[str, _Kind]]:
        annotated = _fields(cls) if cls is not None and attrs.has(cls) else _annotations(function)
        kinds = {
            name: kind
            for name, annotation in annotated.items()
            if name not in besides and (kind := _kind(annotation)) is not None
        }
        parameters = inspect.signature(function).parameters.values()
        by_position = [(one.name, kinds.get(one.name)) for one in parameters if one.kind in _POSITIONAL]
        rest = next(((one.name, kinds[one.name]) for one in parameters if _takes_rest(one) and one.name in kinds), None)
        return by_position, rest, kinds

    suggesting = suggests_keywords(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        by_position, rest, by_name = known()
        for (name, kind), value in zip(by_position, args, strict=False):
            if kind is not None and not kind.holds(value):
                _refuse_unless_numpy(name, value, kind)
        if rest is not None:
            for value in args[len(by_position) :]:
                if not rest[1].holds(value):
                    _refuse_unless_numpy(rest[0], value, rest[1])
        for name, value in kwargs.items():
            if name in by_name and not by_name[name].holds(value):
                _refuse_unless_numpy(name, value, by_name[name])
        return suggesting(*args, **kwargs)

    return call


def _takes_rest(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.VAR_POSITIONAL


def _refuse_unless_numpy(name: str, value: Any, kind: _Kind) -> None:
    """Raise ConfigError, unless this is a scalar of numpy that is right as a scalar of Python."""
    if kind.holds(without_numpy(value)):
        return
    near = close_to(value, kind.choices) if isinstance(value, str) else ""
    raise ConfigError(f"{name}={short(value)}: must be {kind.text}{near}")


def _fields(cls: type[Any]) -> dict[str, Any]:
    """Return the annotations of the fields that no validator or converter of their own checks."""
    own = [field for field in attrs.fields(cls) if field.init and field.validator is None]
    hints = {field.name: _resolved(field.type, vars(sys.modules[cls.__module__])) for field in own}
    return {
        field.alias or field.name: hints[field.name]
        for field in own
        if _keeps_kind(field.converter) or _is_path(hints[field.name])
    }


def _keeps_kind(converter: Any) -> bool:
    """Return whether a converter accepts the kind of its field, and no other; that of `numpy_scalars` does."""
    return converter in (None, tuple) or getattr(converter, "__module__", "") == without_numpy.__module__


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    inner = inspect.unwrap(function)
    return {
        name: _resolved(annotation, inner.__globals__)
        for name, annotation in inner.__annotations__.items()
        if name != "return"
    }


def _resolved(annotation: Any, scope: Mapping[str, Any]) -> Any:
    """Evaluate an annotation that is text; a class imported for type checkers alone is represented by its name."""
    names = dict(scope)
    while isinstance(annotation, str):
        try:
            # Compiled first: `eval` of text makes CPython forget an unhandled Ctrl-C, and its exit status, at exit.
            annotation = eval(compile(annotation, "<annotation>", "eval"), names)
        except NameError as error:
            names[str(error.name)] = type(str(error.name), (_Named,), {})
        except (AttributeError, TypeError):  # a part of such a class
            return Any
    return annotation


class _Named:
    """The base of placeholders for classes that are not imported; their instances are recognized by the class name."""


def _is_path(annotation: Any) -> bool:
    parts = typing.get_args(annotation) or (annotation,)
    return any(inspect.isclass(part) and issubclass(part, PurePath) for part in parts)


def _kind(annotation: Any) -> _Kind | None:
    """Return the kind that an annotation asks for; None where it allows every value, or cannot be judged."""
    if annotation is None or annotation is type(None):
        return _Kind("None", lambda value: value is None)
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _any_of([_kind(part) for part in parts])
    if origin is typing.Literal:
        words = tuple(str(part) for part in parts)
        return _Kind(f"one of {', '.join(words)}", lambda value: _among(value, parts), words)
    if origin is collections.abc.Callable or annotation is collections.abc.Callable:
        return _Kind("something to call", callable)
    if origin is type or annotation is type:
        return _Kind("a class", inspect.isclass)
    plain = origin or annotation
    if not inspect.isclass(plain) or getattr(plain, "_is_protocol", False) or plain in (object, Any):
        return None
    if issubclass(plain, _Named):
        return _instance(
            plain.__name__, lambda value: any(one.__name__ == plain.__name__ for one in type(value).__mro__)
        )
    if plain in _PLAIN:
        return _PLAIN[plain]
    if issubclass(plain, os.PathLike):
        return _Kind("a path", lambda value: isinstance(value, (str, os.PathLike)))
    if issubclass(plain, collections.abc.Mapping):
        keys = _kind(parts[0]) if parts else None
        text = "a mapping with strings as keys" if keys is _PLAIN[str] else "a mapping"
        return _Kind(
            text, lambda value: isinstance(value, Mapping) and all(keys is None or keys.holds(k) for k in value)
        )
    if issubclass(plain, collections.abc.Iterable) and plain.__module__ in ("builtins", "collections.abc"):
        is_mixed = plain is tuple and parts[1:] != (...,)  # a tuple of different things
        return _many(plain, _kind(parts[0]) if parts and not is_mixed else None)
    return _instance(plain.__name__, lambda value: isinstance(value, plain))


def _instance(name: str, holds: Callable[[Any], bool]) -> _Kind:
    return _Kind(f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}", holds)


def _any_of(kinds: list[_Kind | None]) -> _Kind | None:
    some = [kind for kind in kinds if kind is not None]
    if len(some) < len(kinds):
        return None
    texts = list(dict.fromkeys(kind.text for kind in some))
    text = f"{', '.join(texts[:-1])} or {texts[-1]}" if len(texts) > 1 else texts[0]
    choices = tuple(word for kind in some for word in kind.choices)
    return _Kind(text, lambda value: any(kind.holds(value) for kind in some), choices)


def _many(plain: type, each: _Kind | None) -> _Kind:
    """Return the kind for several values. Text is none: its letters are hardly ever meant."""
    wanted = (list, tuple) if plain in (list, tuple) else plain
    name = "an iterable" if plain is collections.abc.Iterable else "a list or tuple"

    def holds(value: Any) -> bool:
        if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, wanted):
            return False
        return (
            each is None or not isinstance(value, Collection) or all(each.holds(without_numpy(part)) for part in value)
        )

    return _Kind(name if each is None else f"{name}, each item {each.text}", holds)


def _among(value: Any, allowed: tuple[Any, ...]) -> bool:
    return any(type(value) is type(each) and value == each for each in allowed)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_PLAIN: dict[type, _Kind] = {
    bool: _Kind("True or False", lambda value: isinstance(value, bool)),
    bytes: _Kind("bytes", lambda value: isinstance(value, bytes)),
    float: _Kind("a number", is_number),
    int: _Kind("a whole number", _is_whole),
    str: _Kind("a string", lambda value: isinstance(value, str)),
}
