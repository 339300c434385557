"""The converter of cattrs that `from_plain` uses, and its strict hooks. Imported when needed."""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import typing
from collections.abc import Callable, Iterable, Mapping, MutableMapping, MutableSequence, MutableSet, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation, localcontext
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin
from uuid import UUID

import attrs
from cattrs import Converter, IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn

from penstock.config.annotations import is_class_of_fields, resolve_annotations, type_hints
from penstock.config.array_hook import numpy_hook
from penstock.config.expected import Hook, expected, origin_of
from penstock.config.reading import ABSENT_IS_NONE, IGNORED
from penstock.config.scalars import scalar_to_plain
from penstock.config.union_hook import union_hook

_LISTS = (list, Sequence, MutableSequence, Iterable, typing.Collection)
_YAML_1_1_BOOLS = ("yes", "Yes", "YES", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF")
_SETS = (set, AbstractSet, MutableSet)
_MAPPINGS = (dict, Mapping, MutableMapping)


def make_converter() -> Converter:
    """Return a converter without implicit conversions."""
    converter = Converter(detailed_validation=True, structure_fallback_factory=_instance_hook)
    for kind, hook in _SCALARS.items():
        converter.register_structure_hook(kind, _or_subclass(kind, hook, converter))
    converter.register_structure_hook(Path, _path_hook(Path, converter))  # cattrs has its own hook for it
    factories: list[tuple[Callable[[Any], bool], Callable[[Any, Converter], Hook]]] = [
        (is_class_of_fields, _class_hook),
        (lambda kind: origin_of(kind) in _LISTS, _list_hook(list)),
        (lambda kind: origin_of(kind) in _SETS, _list_hook(set)),
        (lambda kind: origin_of(kind) is frozenset, _list_hook(frozenset)),
        (lambda kind: origin_of(kind) is tuple, _tuple_hook),
        (lambda kind: origin_of(kind) in _MAPPINGS, _mapping_hook),
        (lambda kind: get_origin(kind) in (typing.Union, UnionType), union_hook),
        (lambda kind: get_origin(kind) is Literal, _literal_hook),
        (lambda kind: isinstance(kind, type) and issubclass(kind, enum.Enum), _enum_hook),
        (lambda kind: isinstance(kind, type) and issubclass(kind, PurePath), _path_hook),
        (lambda kind: getattr(origin_of(kind), "__module__", "") == "numpy", numpy_hook),
        (
            lambda kind: get_origin(kind) is Annotated,
            lambda kind, c: _passing(c.get_structure_hook(get_args(kind)[0])),
        ),
        (
            lambda kind: kind in (Any, object, None, NoneType),
            lambda kind, _: _none if kind in (None, NoneType) else _any,
        ),
    ]
    for applies, factory in factories:
        converter.register_structure_hook_factory(applies)(factory)
    return converter


def _any(value: Any, _: Any) -> Any:
    return value


def _none(value: Any, _: Any) -> None:
    if value is not None:
        raise expected("nothing", value)


def _passing(hook: Hook) -> Hook:
    return lambda value, _: hook(value, None)


# -- scalars -----------------------------------------------------------------------------------------------------------


def _exactly(kind: type, *others: type) -> Hook:
    def hook(value: Any, _: Any) -> Any:
        if type(value).__module__ == "numpy" and hasattr(value, "item"):
            value = value.item()
        if isinstance(value, (kind, *others)) and (kind is bool or not isinstance(value, bool)):
            return kind(value)
        raise expected(
            _WORDS.get(value, kind.__name__) if kind is bool and type(value) is str else kind.__name__, value
        )

    return hook


def _from_text(what: str, kind: type, parse: Callable[[str], Any]) -> Hook:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is kind:  # YAML and TOML have native dates
            return value
        if isinstance(value, str):
            try:
                return parse(value)
            except (ValueError, InvalidOperation):
                pass
        raise expected(what, value)

    return hook


def _timedelta(value: Any, _: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return timedelta(seconds=value)
        if isinstance(value, str):  # written where a float lacks digits
            with localcontext(prec=40):
                return timedelta(microseconds=int(Decimal(value) * 1_000_000))
    except (ValueError, OverflowError, InvalidOperation):
        pass
    raise expected("a number of seconds", value)


_WORDS = dict.fromkeys(_YAML_1_1_BOOLS, "bool, as in true or false (yes, no, on and off are text in YAML 1.2)")
_SCALARS: dict[type, Hook] = {
    int: _exactly(int),
    float: _exactly(float, int),
    str: _exactly(str),
    bool: _exactly(bool),
    bytes: _from_text("base64 text", bytes, lambda text: base64.b64decode(text, validate=True)),
    complex: _from_text("a complex number such as '1+2j'", complex, complex),
    datetime: _from_text("a date and time such as '2026-01-31T12:00:00+00:00'", datetime, datetime.fromisoformat),
    date: _from_text("a date such as '2026-01-31'", date, date.fromisoformat),
    time: _from_text("a time such as '12:00:00'", time, time.fromisoformat),
    timedelta: _timedelta,
    UUID: _from_text("a UUID", UUID, UUID),
    Decimal: _from_text("a decimal number as text", Decimal, Decimal),
}


def _or_subclass(plain: type, hook: Hook, converter: Converter) -> Hook:
    """Return the hook of a class for cattrs, which also calls it for subclasses (StrEnum, numpy.float64)."""

    def dispatch(value: Any, kind: Any) -> Any:
        if kind is plain or not isinstance(kind, type):
            return hook(value, kind)
        if type(value) is kind:
            return value
        if issubclass(kind, enum.Enum):
            return _enum_hook(kind, converter)(value, kind)
        if kind.__module__ == "numpy":
            return numpy_hook(kind, converter)(value, kind)
        make: Callable[[Any], Any] = kind
        return make(hook(value, plain))

    return dispatch


def _enum_hook(kind: Any, _: Converter) -> Hook:
    def hook(value: Any, _: Any) -> Any:
        for member in kind:
            if member is value or (type(member.value) is type(value) and member.value == value):
                return member
        if isinstance(value, str) and value in kind.__members__:
            return kind[value]
        if issubclass(kind, enum.Flag) and type(value) is int:
            try:
                return kind(value)  # several flags, or none
            except ValueError:
                pass
        known = ", ".join(repr(member.value) for member in kind)
        raise expected(f"one of {known}", value, near=[member.value for member in kind])

    return hook


def _literal_hook(kind: Any, _: Converter) -> Hook:
    def hook(value: Any, _: Any) -> Any:
        for choice in get_args(kind):
            plain = scalar_to_plain(choice)
            if type(plain) is type(value) and plain == value:
                return choice
        raise expected(f"one of {', '.join(repr(choice) for choice in get_args(kind))}", value, near=get_args(kind))

    return hook


def _path_hook(kind: Any, _: Converter) -> Hook:
    def hook(value: Any, _: Any) -> Any:
        if isinstance(value, str | PurePath) and "\0" not in str(value):
            return (Path if kind is Path else kind)(value)
        raise expected("a path", value)

    return hook


# -- containers and classes --------------------------------------------------------------------------------------------


def _instance_hook(kind: Any) -> Hook:
    """Return the hook for types that plain data cannot hold (a function, a socket): only an instance is accepted."""

    def hook(value: Any, _: Any) -> Any:
        origin = origin_of(kind)
        if isinstance(kind, typing.TypeVar) or (isinstance(origin, type) and isinstance(value, origin)):
            return value
        raise expected(f"a {getattr(kind, '__name__', kind)} (which no file can hold)", value)

    return hook


def _class_hook(kind: Any, converter: Converter) -> Hook:
    if attrs.has(kind):
        resolve_annotations(kind)
    make: Any = make_dict_structure_fn(
        kind, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True
    )
    known, may_be_none = _field_names(kind)

    def hook(value: Any, _: Any) -> Any:
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            raise expected(f"a mapping (of {kind.__name__})", value)
        ignored = IGNORED.get()
        if ignored is not None:
            ignored += [f"{kind.__name__}.{name}" for name in value if name not in known]
            value = {name: item for name, item in value.items() if name in known}
        if ABSENT_IS_NONE.get() and may_be_none:
            value = {**dict.fromkeys(may_be_none), **value}
        return make(value, kind)

    return hook


def _may_be_none(hint: Any) -> bool:
    return hint in (Any, object, NoneType) or NoneType in get_args(hint) or None in get_args(hint)


def _field_names(kind: Any) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the names of the init fields, and of those that have no default and may be None."""
    fields: list[Any] = [
        field for field in (attrs.fields(kind) if attrs.has(kind) else dataclasses.fields(kind)) if field.init
    ]
    hints = type_hints(kind)
    nothing = (attrs.NOTHING, dataclasses.MISSING)
    required = [
        field.name
        for field in fields
        if field.default in nothing and getattr(field, "default_factory", nothing[1]) in nothing
    ]
    return frozenset(field.name for field in fields), tuple(name for name in required if _may_be_none(hints.get(name)))


def _each(items: Iterable[tuple[Any, Any, Hook, Any]], kind: Any, shown: Any) -> list[Any]:
    """Structure each (index, value, hook, type), and raise all errors together, each with its index."""
    made, errors = [], []
    for index, value, hook, of in items:
        try:
            made.append(hook(value, of))
        except Exception as error:  # a class or validator may raise anything: reported with its path
            note = IterableValidationNote(f"Structuring {shown} @ index {index!r}", index, of)
            error.__notes__ = [*getattr(error, "__notes__", []), note]
            errors.append(error)
    if errors:
        raise IterableValidationError(f"While structuring {shown}", errors, kind)
    return made


def _list_hook(make: Callable[[list[Any]], Any]) -> Callable[[Any, Converter], Hook]:
    def factory(kind: Any, converter: Converter) -> Hook:
        of = (get_args(kind) or (Any,))[0]
        inner = converter.get_structure_hook(of)

        def hook(value: Any, _: Any) -> Any:
            if not isinstance(value, list | tuple | set | frozenset):
                raise expected("a list", value)
            return make(_each(((i, item, inner, of) for i, item in enumerate(value)), kind, kind))

        return hook

    return factory


def _tuple_hook(kind: Any, converter: Converter) -> Hook:
    of = get_args(kind) or (Any, ...)
    if kind is tuple or (len(of) == 2 and of[1] is ...):
        return _list_hook(tuple)(kind, converter)
    inner = [converter.get_structure_hook(one) for one in of]

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise expected("a list", value)
        if len(value) != len(of):
            raise TypeError(f"expected {len(of)} items, got {len(value)}")
        each = ((i, item, inner[i], of[i]) for i, item in enumerate(value))
        return tuple(_each(each, kind, kind))

    return hook


def _mapping_hook(kind: Any, converter: Converter) -> Hook:
    key_type, of = get_args(kind) or (Any, Any)
    key_hook, inner = converter.get_structure_hook(key_type), converter.get_structure_hook(of)

    def key(value: Any, _: Any) -> Any:
        try:
            return key_hook(value, key_type)
        except Exception:  # files have text keys only: other keys are in JSON form
            try:
                plain = json.loads(value)
            except (ValueError, TypeError, RecursionError):
                plain = value
            if isinstance(plain, str):
                raise
            return key_hook(plain, key_type)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise expected("a mapping", value)
        keys = _each(((name, name, key, key_type) for name in value), kind, kind)
        values = _each(((name, item, inner, of) for name, item in value.items()), kind, kind)
        made = dict(zip(keys, values, strict=True))
        if len(made) < len(keys):
            raise TypeError("expected keys that differ, got two that are the same")
        return made

    return hook
