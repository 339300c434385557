"""Suggestions for misspelled names, options and settings in errors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from penstock.errors import UnknownOptionError

P = ParamSpec("P")
T = TypeVar("T")


def nearest(word: str, known: Iterable[str], *, count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the known words most like this one, the nearest first; case, "-" and "_" make no difference.

    `cutoff` is the least likeness, from 0 to 1, as for `difflib.get_close_matches`.
    """
    import difflib

    forms: dict[str, str] = {}
    for each in known:
        forms.setdefault(_form(each), each)
    return [forms[form] for form in difflib.get_close_matches(_form(word), forms, count, cutoff)]


def _form(word: str) -> str:
    return word.casefold().replace("-", "_")


def close_to(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest known word, or ""."""
    near = nearest(word, known)
    return f"; did you mean {near[0]!r}?" if near else ""


def suggests_keywords(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function suggest the nearest of its keywords when it is called with an unknown one.

    It then raises UnknownOptionError, which is also the TypeError that Python would raise. A valid call costs one more
    function call.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            unknown = _unknown(function, kwargs)
            if unknown is None:
                raise
            raise UnknownOptionError(unknown) from error

    return call


def suggests_fields(cls: type[T]) -> type[T]:
    """Make a class suggest the nearest of its arguments for an unknown one; see `suggests_keywords`."""
    made: Any = cls
    made.__init__ = suggests_keywords(made.__init__)
    return cls


def _unknown(function: Callable[..., Any], given: Iterable[str]) -> str | None:
    """Return the message for the first keyword that a function does not have; None if there is none."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    known = [one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)]
    known = [name for name in known if name != "self"]
    for key in given:
        if key not in known:
            name = function.__qualname__.removesuffix(".__init__")
            others = f"it has {', '.join(known)}" if known else "it takes no options"
            return f"{name}() has no option {key!r}{close_to(key, known) or '; ' + others}"
    return None
