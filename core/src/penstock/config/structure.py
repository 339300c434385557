"""Plain data into objects, strictly: no implicit conversions, and every error has a path."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.errors import ConfigError

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")


def from_plain(cls: type[T] | Any, data: Any, *, path: str = "$") -> T:
    """Make an object of `cls`, an attrs class, a dataclass or any annotation, from plain data.

    Text is not a number, a bool is not an int, but an int is accepted as a float. A field that may be one of several
    classes becomes the one named by its key "type", else the only one that fits.

    Args:
        cls: The class or annotation.
        data: Data from `to_plain`, `read_config` or a user.
        path: The name of the top of `data` in errors.

    Raises:
        ConfigError: it does not fit; each line of the message begins with the path of a field and names the type
            expected, or keys similar to the unknown one.
    """
    from penstock.config.problems import problems_of

    try:
        made: T = _converter().structure(data, cls)
    except Exception as error:  # classes and validators may raise anything; cattrs collects it
        raise ConfigError("\n".join(problems_of(error, path))) from error
    return made


def field_problems(cls: type, values: Mapping[str, Any], *, path: str = "$") -> list[str]:
    """Return one line for each value that does not fit the annotation of its field, of an attrs class; makes nothing.

    Args:
        cls: An attrs class.
        values: Plain data by the names of fields; others are not checked.
        path: The name of the class in the lines.
    """
    import attrs

    from penstock.config.annotations import resolve_annotations
    from penstock.config.problems import problems_of

    resolve_annotations(cls)
    found: list[str] = []
    for field in attrs.fields(cls):
        if field.name in values and field.type is not None:
            try:
                _converter().structure(values[field.name], field.type)
            except Exception as error:  # as in from_plain
                found += problems_of(error, f"{path}.{field.name}")
    return found


def reads_as(plain: Any, annotation: Any, obj: Any) -> bool:
    """Return whether plain data read by an annotation equals an object, by value and type."""
    from penstock.config.same import difference

    try:
        return difference(obj, _converter().structure(plain, annotation), kind=annotation) is None
    except Exception:  # classes and validators may raise anything: it is not equal then
        return False


@lru_cache(maxsize=1)
def _converter() -> Converter:
    from penstock.config.hooks import make_converter

    return make_converter()
