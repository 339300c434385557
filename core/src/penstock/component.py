"""Component: what a plugin says of a thing it offers, without importing it."""

from __future__ import annotations

import re
from typing import Any, Protocol, runtime_checkable

import attrs

ROLES = ("source", "decoder", "processor", "store")
KINDS = ("bytes", "array", "mapping", "any")

_NAME = re.compile(r"[a-z][a-z0-9]*([-_.][a-z0-9]+)*\Z")
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")


def _name(_: Any, __: Any, value: Any) -> None:
    if not isinstance(value, str) or not _NAME.match(value):
        raise ValueError(f"component name {value!r}: use lower-case letters, digits, '-', '_' and '.', as in 'npy'")


def _path(_: Any, __: Any, value: Any) -> None:
    if not isinstance(value, str) or not _PATH.match(value):
        raise ValueError(f"import path {value!r}: write 'package.module:Class', as in 'penstock_npy.store:NpyStore'")


def _kind(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value not in KINDS:
        raise ValueError(f"{field.name}={value!r}: must be one of {', '.join(KINDS)}")


@attrs.frozen
class Component:
    """Describe one source, decoder, processor or store: a name, and where to import it from when it is used.

    Attributes:
        name: What users write in `ps.store("npy")`; unique within the plugin and role.
        path: "module:Class"; imported on first use.
        summary: One line for `penstock plugins`.
        takes: What it takes as data ("bytes", "array", "mapping", "any"); of no meaning for a source.
        gives: What its records carry as data; of no meaning for a store.
        requires: The library whose absence explains a failing import, and is named then ("av").
    """

    name: str = attrs.field(validator=_name)
    path: str = attrs.field(validator=_path)
    summary: str = attrs.field(default="", kw_only=True, validator=attrs.validators.instance_of(str))
    takes: str = attrs.field(default="any", kw_only=True, validator=_kind)
    gives: str = attrs.field(default="any", kw_only=True, validator=_kind)
    requires: str = attrs.field(default="", kw_only=True, validator=attrs.validators.instance_of(str))


@runtime_checkable
class SupportsNodeName(Protocol):
    """A component that wants to know the name of the node that it stands for."""

    def take_node_name(self, name: str) -> None:
        """Be told the name, before `open`; "" if the node has none."""
        ...
