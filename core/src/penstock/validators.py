"""Validators of attrs fields for settings and options. Each raises a ConfigError with field, value and remedy.

They refuse None; `or_none` makes a check that allows it. `numpy_scalars` makes a class accept scalars of numpy.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from penstock.errors import ConfigError
from penstock.short_text import short
from penstock.suggestions import close_to

Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]
T = TypeVar("T")


def numpy_scalars(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Make the fields of a class accept scalars of numpy: `@attrs.frozen(field_transformer=numpy_scalars)`.

    A number, bool or text of numpy becomes that of Python before the field is validated; all else stays as it is.
    Fields that have a converter of their own are not changed.
    """
    return [field if field.converter else field.evolve(converter=_converter_to(field.type)) for field in fields]


def _converter_to(kind: Any) -> Callable[[Any], Any]:
    """Return `without_numpy` with the annotation of a field, which attrs shows for the argument of `__init__`."""

    def convert(value: Any) -> Any:
        return without_numpy(value)

    parameter = inspect.Parameter("value", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
    convert.__annotations__ = {}  # it accepts what the field does
    convert.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]  # functions may have one
    return convert


def without_numpy(value: T) -> T:
    """Return the number, bool or text of Python for a scalar of numpy, and anything else as it is."""
    if is_numpy_scalar(value):
        plain: T = value.item()  # type: ignore[attr-defined]  # each scalar of numpy has it
        return plain
    return value


def is_numpy_scalar(value: Any) -> bool:
    """Return whether this is a number, bool or text of numpy; numpy is not imported for it."""
    return type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 and value.dtype.kind in "biufSU"


@attrs.frozen
class _Argument:
    name: str


def check_argument(what: str, value: T, check: Check) -> T:
    """Check an argument that is not a field, and return it; a scalar of numpy is returned as one of Python.

    Raises:
        ConfigError: `check` refuses it; the message begins with `what`.
    """
    value = without_numpy(value)
    check(None, _Argument(what), value)  # type: ignore[arg-type]  # checks read the name of a field, and nothing else
    return value


def is_number(value: Any) -> bool:
    """Return whether this is a number, and one that a float can hold."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def or_none(check: Check) -> Check:
    """Return a check that also allows None."""

    def check_or_none(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if value is not None:
            check(instance, field, value)

    return check_or_none


def at_least(least: int) -> Check:
    """Return a check for whole numbers from `least` on."""

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{field.name}={short(value)}: must be a whole number of at least {least}")

    return check


def between(least: int, most: int) -> Check:
    """Return a check for whole numbers from `least` to `most`."""

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(f"{field.name}={short(value)}: must be a whole number from {least} to {most}")

    return check


def positive(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for a number above 0; infinity is accepted."""
    if not is_number(value) or not value > 0:
        raise ConfigError(f"{field.name}={short(value)}: must be a number above 0")


def seconds(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for a number of seconds above 0; infinity is accepted."""
    if not is_number(value) or not value > 0:
        raise ConfigError(f"{field.name}={short(value)}: must be a number of seconds above 0")


def finite_seconds(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for a finite number of seconds above 0, for libraries that do not support infinite times."""
    if not is_number(value) or not 0 < value < math.inf:
        raise ConfigError(f"{field.name}={short(value)}: must be a number of seconds above 0")


def not_negative(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for a number of seconds of 0 or more."""
    if not is_number(value) or not value >= 0:
        raise ConfigError(f"{field.name}={short(value)}: must be a number of seconds, 0 or more")


def one_of(*choices: str) -> Check:
    """Return a check for one of these strings."""

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if value not in choices:
            near = close_to(value, choices) if isinstance(value, str) else ""
            raise ConfigError(f"{field.name}={short(value)}: must be one of {', '.join(choices)}{near}")

    return check


def flag(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{field.name}={short(value)}: must be True or False")


def mapping(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for a mapping with strings as keys."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{field.name}={short(value)}: must be a mapping with strings as keys")


def library_options(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for a mapping of strings to strings or numbers: the options of a library."""
    mapping(_, field, value)
    for key, one in value.items():
        if not isinstance(one, (str, int, float)):
            raise ConfigError(f"{field.name}[{key!r}]={short(one)}: must be a string or a number")


def name(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for one line of text that can be written as UTF-8, and is not blank."""
    check_name(field.name, value)


def check_name(what: str, value: Any) -> None:
    """Raise ConfigError unless this is one line of text that can be written as UTF-8, and is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{what}={short(value)}: must be a non-empty string")
    if value.splitlines() != [value]:
        raise ConfigError(f"{what}={short(value)}: must be a single line, since reports print it in a table")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{what}={short(value)}: holds surrogates, which cannot be written as UTF-8") from None


def of_class(kind: type) -> Check:
    """Return a check for instances of a class."""

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, kind):
            raise ConfigError(f"{field.name}={short(value)}: must be a {kind.__name__}(...)")

    return check
