"""Policies: the behaviour of a full edge, as values, and as words for them.

Every policy has a word ("drop_oldest") and a text form, `str(policy)`, from which `policy_of` makes an equal one. The
behaviour of each is implemented in `penstock.run.edges.full`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal

import attrs

from penstock.errors import ConfigError
from penstock.short_text import short
from penstock.suggestions import close_to, suggests_fields
from penstock.validators import at_least, numpy_scalars

SPILL_BYTES: Final = 10 * 2**30
"""The default limit in bytes for the files of one edge."""

_UNITS: Final = {"TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}
_TEXT = re.compile(r"\s*([\w-]+)\s*(?:\((.*)\))?\s*\Z", re.DOTALL)
_SIZED = re.compile(r"(.+?),\s*(\d+)\s*(B|KiB|MiB|GiB|TiB)\s*\Z", re.DOTALL)


def _whole(cls: str) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    whole = at_least(1)

    def check(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
        try:
            whole(instance, field, value)
        except ConfigError as error:
            raise ConfigError(f"{cls}: {error}") from None

    return check


def _path_text(value: str | os.PathLike[str]) -> str:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _directory(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ConfigError(f"Spill: {field.name}={short(value)}: must be the path of a directory")


@suggests_fields
@attrs.frozen
class Block:
    """Make the node before the edge wait for room. Nothing is lost."""

    word: ClassVar[str] = "block"

    def __str__(self) -> str:
        return self.word


@suggests_fields
@attrs.frozen
class DropOldest:
    """Drop the records that have waited longest, and count them."""

    word: ClassVar[str] = "drop_oldest"

    def __str__(self) -> str:
        return self.word


@suggests_fields
@attrs.frozen
class DropNewest:
    """Drop new records, and count them."""

    word: ClassVar[str] = "drop_newest"

    def __str__(self) -> str:
        return self.word


@suggests_fields
@attrs.frozen
class Latest:
    """Keep the newest record of each channel; drop the others, and count them."""

    word: ClassVar[str] = "latest"

    def __str__(self) -> str:
        return self.word


@suggests_fields
@attrs.frozen(field_transformer=numpy_scalars)
class Sample:
    """Wait for every n-th record of a channel while the edge is full; drop the others, and count them.

    Attributes:
        n: Every n-th record is kept; at least 1.
    """

    word: ClassVar[str] = "sample"

    n: int = attrs.field(validator=_whole("Sample"))

    def __str__(self) -> str:
        return f"sample({self.n})"


@suggests_fields
@attrs.frozen(field_transformer=numpy_scalars)
class Spill:
    """Continue in files, in order; block when they are full. The next run first reads what an abort left in them.

    Attributes:
        directory: The directory of the files; a different one for each edge, created when the run starts.
        max_bytes: The total size of the files at which the edge blocks.
    """

    word: ClassVar[str] = "spill"

    directory: str = attrs.field(converter=_path_text, validator=_directory)
    max_bytes: int = attrs.field(default=SPILL_BYTES, kw_only=True, validator=_whole("Spill"))

    def __str__(self) -> str:
        if self.max_bytes == SPILL_BYTES and "," not in self.directory:
            return f"spill({self.directory})"
        unit = next(unit for unit, size in _UNITS.items() if self.max_bytes % size == 0)
        return f"spill({self.directory}, {self.max_bytes // _UNITS[unit]} {unit})"


Policy = Block | DropOldest | DropNewest | Latest | Sample | Spill

PolicyWord = Literal["block", "drop_oldest", "drop_newest", "latest"]
"""The words of policies without options; "sample(10)" and "spill(directory)" are text, too."""

POLICIES: Final[tuple[type[Policy], ...]] = (Block, DropOldest, DropNewest, Latest, Sample, Spill)
_BY_WORD: Final[dict[str, type[Policy]]] = {policy.word: policy for policy in POLICIES}
_FORMS: Final = "block, drop_oldest, drop_newest, latest, sample(n) or spill(directory)"


def policy_of(value: Policy | str) -> Policy:
    """Return the policy for a text ("latest", "sample(10)", "spill(dir, 20 GiB)"), or a policy itself.

    Raises:
        ConfigError: the value is not a policy, or has a wrong argument.
    """
    if isinstance(value, POLICIES):
        return value
    if isinstance(value, type) and issubclass(value, POLICIES):
        raise ConfigError(
            f"when_full={value.__name__}: is a class: pass an instance, as in ps.Sample(10) or ps.Latest()"
        )
    match = _TEXT.match(value) if isinstance(value, str) else None
    if match is None:
        remedy = "; tables are for files: write ps.Sample(10) or ps.Spill('dir')" if isinstance(value, Mapping) else ""
        raise ConfigError(f"when_full={short(value)}: must be {_FORMS}{remedy}")
    word, argument = match[1], match[2]
    if word not in _BY_WORD:
        raise ConfigError(f"when_full={short(value)}: must be {_FORMS}{close_to(word, _BY_WORD)}")
    try:
        return _made(_BY_WORD[word], argument)
    except ConfigError as error:
        raise ConfigError(f"when_full={short(value)}: must be {_FORMS}: {error}") from error


def _made(policy: type[Policy], argument: str | None) -> Policy:
    if policy is Sample:
        return Sample(int(argument)) if argument and argument.strip().isdecimal() else Sample(argument)  # type: ignore[arg-type]  # Sample refuses it
    if policy is Spill:
        sized = _SIZED.match(argument or "")
        if sized:
            return Spill(sized[1], max_bytes=int(sized[2]) * _UNITS[sized[3]])
        if "," in (argument or ""):
            raise ConfigError(f"the size must be a whole number of {', '.join(_UNITS)}, as in spill(directory, 20 GiB)")
        return Spill(argument or "")
    if argument is not None:
        raise ConfigError(f"{policy.word} takes no argument")
    plain: Any = policy
    made: Policy = plain()
    return made
