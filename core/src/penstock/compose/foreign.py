"""Files of other systems that plugins read as pipelines, found by entry points; tried for unknown files."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from penstock.errors import ComponentLoadError, PenstockError
from penstock.hookspecs import PROJECT
from penstock.plugins.report import normalised

if TYPE_CHECKING:
    from penstock.compose.pipeline import Pipeline

GROUP = f"{PROJECT}.files"
"""The entry-point group: each value leads to a `ForeignFile`, in a module that imports nothing heavy."""

_log = logging.getLogger("penstock")


@attrs.frozen(kw_only=True)
class ForeignFile:
    """A file format of another system, and the function that makes a pipeline of such a file.

    Attributes:
        name: Its name for messages.
        recognises: Returns whether parsed content (of JSON, YAML, TOML) has this format. Fast; never raises.
        path: "module:function"; called with the content and the file's path, it returns a `Pipeline`, or raises
            ConfigError with the path in the file. It is imported after a file has been recognised.
    """

    name: str
    recognises: Callable[[Any], bool]
    path: str


def foreign_pipeline(content: Any, path: Path) -> Pipeline | None:
    """Return the pipeline of a file of another system; None if no plugin knows it.

    Raises:
        ComponentLoadError: the plugin that knows it cannot be imported.
        PenstockError: the plugin rejects the file; the message begins with the file's path.
    """
    for home, kind in _kinds():
        try:
            is_one = kind.recognises(content)
        except Exception as error:  # a plugin may raise anything for foreign content
            _log.warning("%s: %s failed to examine %s: %s", GROUP, home, path, error)
            continue
        if not is_one:
            continue
        module, _, attribute = kind.path.partition(":")
        try:
            read = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ComponentLoadError(f"{path}: is a {kind.name} file, which {home} cannot read: {error}") from error
        try:
            made: Pipeline = read(content, path)
        except PenstockError as error:
            error.args = (f"{path}: {error}", *error.args[1:])
            raise
        return made
    return None


def _kinds() -> list[tuple[str, ForeignFile]]:
    """Return the formats of installed plugins, sorted; a broken plugin is logged and skipped."""
    without = {normalised(name) for name in os.environ.get("PENSTOCK_WITHOUT", "").split(",") if name.strip()}
    found: dict[str, tuple[str, ForeignFile]] = {}
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        home = normalised(entry.dist.name) if entry.dist else "?"
        if home in without or "*" in without or entry.name in found:
            continue
        try:
            kind = entry.load()
            if not isinstance(kind, ForeignFile):
                raise TypeError(f"{entry.value!r} is a {type(kind).__name__}, not a ForeignFile")
        except (Exception, SystemExit) as error:  # a plugin may raise anything at import
            _log.warning("%s: %s of %s is skipped: %s", GROUP, entry.name, home, error)
            continue
        found[entry.name] = (home, kind)
    return list(found.values())
