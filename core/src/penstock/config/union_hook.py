"""The hook for unions: it selects the member for a value. Imported when needed."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

from cattrs import Converter, IterableValidationError

from penstock.config.annotations import TAG, VALUE, is_class_of_fields, member_name, member_names, tagged_classes
from penstock.config.expected import Hook, expected
from penstock.config.reading import IGNORED
from penstock.suggestions import close_to


def union_hook(kind: Any, converter: Converter) -> Hook:
    """Return the hook of a union: the member that the key "type" names, that is of the value's type, or that fits.

    The order in the annotation is irrelevant: Python treats `str | bytes` and `bytes | str` as equal, and may return
    one for the other. Text stays text where the union has str.
    """
    members = sorted(get_args(kind), key=member_name)
    hooks = [(member, converter.get_structure_hook(member)) for member in members]
    tagged = {cls.__name__: cls for cls in tagged_classes(kind)}
    named = member_names(kind)
    names = " or ".join("nothing" if one is NoneType else getattr(one, "__name__", str(one)) for one in get_args(kind))

    def hook(value: Any, _: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get(TAG), str):
            if value[TAG] in tagged:
                rest = {name: item for name, item in value.items() if name != TAG}
                return converter.structure(rest, tagged[value[TAG]])
            if value.keys() == {TAG, VALUE} and value[TAG] in named:
                return converter.structure(value[VALUE], named[value[TAG]])
        for member, inner in hooks:  # 3 is an int before it is a float
            if type(value) is member:
                return inner(value, member)
        fits, errors = _try_each(hooks, value)
        if len(fits) > 1:
            could = " or ".join(member.__name__ for member, _ in fits)
            raise TypeError(f"could be {could}; add the key {TAG!r} with one of these names")
        if fits:
            return fits[0][1]
        likely = [error for member, error in errors if isinstance(value, Mapping) and is_class_of_fields(member)]
        if not likely and isinstance(value, list):
            likely = [error for _, error in errors if isinstance(error, IterableValidationError)]
        if len(likely) == 1:
            raise likely[0]
        if isinstance(value, Mapping) and (near := close_to(str(value.get(TAG, "")), tagged)):
            raise TypeError(f"expected {names}, and the key {TAG!r} names none of them: {value[TAG]!r}{near}")
        if isinstance(value, Mapping) and tagged:
            raise TypeError(f"{expected(names, value)}; the key {TAG!r} of a table names one of {', '.join(tagged)}")
        raise expected(names, value)

    return hook


Tried = tuple[list[tuple[Any, Any]], list[tuple[Any, Exception]]]


def _try_each(hooks: list[tuple[Any, Hook]], value: Any) -> Tried:
    """Return the members that accept a value, each with its result, and the errors of the others.

    The first that is not a class with fields is enough. Where unknown keys are ignored, classes that know all
    keys come first.
    """
    ignored = IGNORED.get()
    if ignored is not None:
        token = IGNORED.set(None)
        try:
            tried = _try_each(hooks, value)
        finally:
            IGNORED.reset(token)
        if tried[0]:
            return tried
    fits: list[tuple[Any, Any]] = []
    errors: list[tuple[Any, Exception]] = []
    for member, inner in hooks:
        count = len(ignored or ())
        try:
            fits.append((member, inner(value, member)))
        except Exception as error:  # it is not this member; the errors are reported if none fits
            errors.append((member, error))
            if ignored is not None:
                del ignored[count:]
        if fits and not is_class_of_fields(fits[0][0]):
            return fits[:1], errors
    return fits, errors
