"""Subscriptions to an object store: after each notification, list the objects and report the changes."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from penstock.arguments import checks_arguments
from penstock_shm.objects.object_file import read_content, read_info
from penstock_shm.objects.object_index import ObjectIndex


@checks_arguments
@attrs.define(eq=False)
class NewObjects:
    """Call `callback` with the name (or id) of each matching object that was put since the last call."""

    index: ObjectIndex
    callback: Callable[[str], None]
    pattern: str
    coords: Mapping[str, Any]
    _last: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """List the existing objects, which are not new."""
        self._last = max(self.index.ids(), default="")

    def __call__(self) -> None:
        """List the objects, and report."""
        for key in self.index.ids():
            if key > self._last:
                self._last = key
                if (name := self._match(key)) is not None:
                    self.callback(name or key)

    def _match(self, key: str) -> str | None:
        """Return the object's name, or None if it does not match or is gone."""
        path = self.index.object_path(key)
        try:
            name = read_info(path, key).name
            if not _fits(self.pattern, key, name):
                return None
            if self.coords and not read_content(path, key).record.coords.matches(self.coords):
                return None
        except FileNotFoundError:
            return None
        return name


@checks_arguments
@attrs.define(eq=False)
class Changes:
    """Call `callback` with the change and the name (or id) of each object that changed since the last call."""

    index: ObjectIndex
    callback: Callable[[str, str], None]
    pattern: str
    _known: dict[str, int] = attrs.field(init=False)
    _names: dict[str, str] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        """List the objects that exist now, as the state to compare with."""
        self._known = self.index.files()
        for key in self._known:
            self._name(key)

    def __call__(self) -> None:
        """List the objects, and report."""
        before, self._known = self._known, self.index.files()
        for key in sorted(before.keys() | self._known.keys()):
            if before.get(key) == self._known.get(key):
                continue
            what = "put" if key not in before else "replaced" if key in self._known else "deleted"
            name = self._name(key)
            if what == "deleted":
                self._names.pop(key, None)
            if _fits(self.pattern, key, name):
                self.callback(what, name or key)

    def _name(self, key: str) -> str:
        if key not in self._names:
            try:
                self._names[key] = read_info(self.index.object_path(key), key).name
            except FileNotFoundError:
                return ""  # deleted meanwhile: the next call reports it
        return self._names[key]


def _fits(pattern: str, key: str, name: str) -> bool:
    return pattern == "*" or any(fnmatch.fnmatchcase(text, pattern) for text in (key, name))
