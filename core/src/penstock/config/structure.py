"""Plain data into objects, strictly: nothing is guessed, and every error says where it is."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.errors import ConfigError

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")


def from_plain(cls: type[T] | Any, data: Any, *, path: str = "$") -> T:
    """Make an object of `cls`, an attrs class, a dataclass or any annotation, from plain data.

    Text is no number, a bool no int, but an int may stand for a float. A field that may be one of several classes
    takes the one that its key "type" names, else the only one that fits.

    Args:
        cls: The class or annotation.
        data: What `to_plain`, `read_config` or a person gave.
        path: What errors call the top of `data`.

    Raises:
        ConfigError: it does not fit; each line of the message begins with the path of a field and says what was
            expected, or names keys like the one that is unknown.
    """
    from penstock.config.problems import problems_of

    try:
        made: T = _converter().structure(data, cls)
    except Exception as error:  # cattrs collects whatever the classes and their validators raise
        raise ConfigError("\n".join(problems_of(error, path))) from error
    return made


def reads_as(plain: Any, annotation: Any, obj: Any) -> bool:
    """Tell whether plain data read by an annotation is the same as an object, by value and type."""
    from penstock.config.same import difference

    try:
        return difference(obj, _converter().structure(plain, annotation)) is None
    except Exception:  # whatever classes and validators raise: it is not read
        return False


@lru_cache(maxsize=1)
def _converter() -> Converter:
    from penstock.config.hooks import make_converter

    return make_converter()
