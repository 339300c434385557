"""Component: a plugin's description of one component, without importing it."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, Protocol, runtime_checkable

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import ConfigError
from penstock.short_text import short

ROLES = ("source", "decoder", "processor", "store")
KINDS = ("bytes", "array", "mapping", "any")

_NAME = re.compile(r"[a-z][a-z0-9]*([-_.][a-z0-9]+)*\Z")
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")


def _name(_: Any, __: Any, value: Any) -> None:
    if not isinstance(value, str) or not _NAME.match(value):
        raise ConfigError(f"name={short(value)}: use lower-case letters, digits, '-', '_' and '.', as in 'npy'")


def _path(_: Any, __: Any, value: Any) -> None:
    if not isinstance(value, str) or not _PATH.match(value):
        raise ConfigError(f"path={short(value)}: write 'package.module:Class', as in 'penstock_npy.store:NpyStore'")


def _kind(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value not in KINDS:
        raise ConfigError(f"{field.name}={short(value)}: must be one of {', '.join(KINDS)}")


@checks_arguments
@attrs.frozen
class Component:
    """Describe one source, decoder, processor or store: its name, and its import path, used when needed.

    Attributes:
        name: The name in `ps.store("npy")`; unique within the plugin and role.
        path: "module:Class"; imported on first use.
        summary: One line for `penstock plugins`.
        takes: The data that it accepts ("bytes", "array", "mapping", "any"); unused for a source.
        gives: The data of its records; unused for a store.
        requires: The library named when its import fails ("av").
    """

    name: str = attrs.field(validator=_name)
    path: str = attrs.field(validator=_path)
    summary: str = attrs.field(default="", kw_only=True)
    takes: str = attrs.field(default="any", kw_only=True, validator=_kind)
    gives: str = attrs.field(default="any", kw_only=True, validator=_kind)
    requires: str = attrs.field(default="", kw_only=True)


@checks_arguments
@attrs.frozen
class Remark:
    """A fact that a component tells the report, in one sentence.

    Attributes:
        text: The sentence.
        level: "warning" for a probable mistake of the user although nothing failed; "info" for any other fact.
    """

    text: str
    level: Literal["info", "warning"] = "info"


@runtime_checkable
class SupportsRemarks(Protocol):
    """A source or decoder that tells the report what its user should know, although nothing failed."""

    def remarks(self) -> Sequence[Remark]:
        """Return what is to be reported so far; () for nothing.

        A source is asked from any thread, also after `close`; a decoder by the thread that uses it.
        """
        ...


def supports(component: object, ability: type) -> bool:
    """Return whether a component has an ability, a `Supports…` protocol; faster than isinstance if it has none of it.

    An isinstance takes 10 us on Python 3.11 (until the project requires 3.12), and a run that starts asks often.
    """
    if sys.version_info < (3, 12) and not hasattr(component, _a_member(ability)):
        return False
    return isinstance(component, ability)


@cache
def _a_member(ability: type) -> str:
    return next(name for name in (*vars(ability), *ability.__annotations__) if not name.startswith("_"))


@runtime_checkable
class SupportsNodeName(Protocol):
    """A component that needs the name of its node."""

    def take_node_name(self, name: str) -> None:
        """Receive the name, before `open`; "" if the node has none."""
        ...
