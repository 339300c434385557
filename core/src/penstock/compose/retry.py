"""Retry: how often a failed call is retried, and after which errors."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

import penstock.errors
from penstock.arguments import checks_arguments
from penstock.errors import ConfigError, WiringError
from penstock.short_text import short
from penstock.suggestions import close_to
from penstock.validators import at_least, not_negative, numpy_scalars, or_none, seconds

ErrorClass = type[BaseException]


def _named() -> dict[str, ErrorClass]:
    """Return the exceptions that have a bare name: the built-in ones and those of penstock."""
    homes: tuple[Mapping[str, Any], ...] = (vars(builtins), vars(penstock.errors))
    return {name: found for home in homes for name, found in home.items() if _is_error(found)}


def _is_error(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)


def _is_path(name: str) -> bool:
    module, colon, rest = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *rest.split(".")))


def _meant(name: str, known: Iterable[str]) -> str:
    """Return a suggestion: a name with dots is that of a class in a module."""
    module, dot, cls = name.rpartition(".")
    if not dot:
        return close_to(name, known)
    meant = cls if cls in known else f"{module}:{cls}"
    return f"; did you mean {meant!r}?" if cls in known or _is_path(meant) else ""


def _errors(on: ErrorClass | str | Iterable[ErrorClass | str]) -> tuple[ErrorClass | str, ...]:
    """Return classes and import paths for classes and names. Raises ConfigError for any other value."""
    if isinstance(on, (str, type)):
        on = (on,)
    if not isinstance(on, Iterable):
        raise ConfigError(f"on={short(on)}: must be a tuple of exception classes or their names")
    found: list[ErrorClass | str] = []
    for one in on:
        if isinstance(one, str) and not _is_path(one):
            known = _named()
            if one not in known:
                raise ConfigError(
                    f"on: {one!r} is not the name of a built-in or penstock exception{_meant(one, known)}; "
                    "name others as 'module:Class', or pass the class"
                )
            found.append(known[one])
        elif isinstance(one, str) or _is_error(one):
            found.append(one)
        else:
            raise ConfigError(f"on: {short(one)} is neither an exception class nor the name of one")
    return tuple(dict.fromkeys(found))


@checks_arguments
@attrs.frozen(kw_only=True, field_transformer=numpy_scalars)
class Retry:
    """How often a failed call is retried, and with which waits.

    Attributes:
        times: Number of tries, the first one included; None retries until the run is aborted.
        wait_initial_s: Seconds before the second try; doubled for each further one, with jitter.
        wait_max_s: Upper limit of a wait, in seconds.
        jitter_s: The largest random part of a wait, in seconds.
        on: The errors to retry: exception classes, or names: "OSError", "StoreError" (built-in or of penstock), or
            "my.module:MyError", which is imported when the run starts. After other errors, nothing is retried.

    Raises:
        ConfigError: a value is wrong, or `on` names no exception.
    """

    times: int | None = attrs.field(default=3, validator=or_none(at_least(1)))
    wait_initial_s: float = attrs.field(default=0.1, validator=seconds)
    wait_max_s: float = attrs.field(default=5.0, validator=seconds)
    jitter_s: float = attrs.field(default=0.1, validator=not_negative)
    on: tuple[ErrorClass | str, ...] = attrs.field(default=(Exception,), converter=_errors)

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in attrs.fields(Retry)
            if field.name != "on" and getattr(self, field.name) != field.default
        ]
        if self.on != (Exception,):
            names = [repr(error) if isinstance(error, str) else error.__qualname__ for error in self.on]
            changed.append(f"on=({', '.join(names)}{',' if len(names) == 1 else ''})")
        return f"Retry({', '.join(changed)})"

    def import_paths(self) -> list[str]:
        """Return the errors that are named by an import path and not imported yet."""
        return [error for error in self.on if isinstance(error, str)]

    def error_classes(self) -> tuple[ErrorClass, ...]:
        """Return the classes of `on`, and import those that are named by an import path.

        Raises:
            ConfigError: there is no such class, or it is not an exception.
        """
        return tuple(_imported(error) if isinstance(error, str) else error for error in self.on)

    def error_names(self) -> list[str]:
        """Return the errors of `on` as names for a file. Raises WiringError for a class that no file can name."""
        return [error if isinstance(error, str) else _name_of(error) for error in self.on]


def _imported(path: str) -> ErrorClass:
    from penstock.compose.import_path import import_path

    found = import_path(path)
    if not _is_error(found):
        raise ConfigError(f"retry on {path!r}: is not an exception class")
    error: ErrorClass = found
    return error


def _name_of(error: ErrorClass) -> str:
    from penstock.compose.address import path_of, why_no_path

    if _named().get(error.__name__) is error:
        return error.__name__
    path = path_of(error)
    if path is None:
        raise WiringError(f"retry on {error.__name__}: a file cannot name this class: {why_no_path(error)}")
    return path
