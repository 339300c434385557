"""Recognition of BOSS files by their content. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.compose.foreign import ForeignFile

ARCHIVERS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "ArrayArchiver": ("ArrayArchiver", "npy", {"split_data_array": "split"}),
    "JsonArchiver": ("JsonArchiver", "json", {"merge_metadata": "merge_metadata"}),
}
"""By the last part of `classname`: the class, its store, and the store's options by argument name."""

_MODULES = ("herostools.actor.", "herostools.actor.data_archiver.", "herostools.actor.archiver.", "penstock_zenoh.")


def entries(content: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each entry of a BOSS file with its path: one object, a list of objects, or {"docs": [...]}."""
    if isinstance(content, Mapping) and "classname" in content:
        yield "$", content
        return
    listed, where = (content["docs"], "$.docs") if isinstance(content, Mapping) else (content, "$")
    for index, entry in enumerate(listed):
        yield f"{where}[{index}]", entry


def is_boss(content: Any) -> bool:
    """Return whether the content of a file describes archivers as BOSS starts them."""
    if isinstance(content, Mapping) and "classname" not in content:
        content = content.get("docs")
    listed = content if isinstance(content, list) else [content]
    return bool(listed) and all(isinstance(each, Mapping) and _is_ours(each.get("classname")) for each in listed)


def _is_ours(classname: Any) -> bool:
    return isinstance(classname, str) and classname.startswith(_MODULES)


FILES = ForeignFile(name="BOSS", recognises=is_boss, path="penstock_zenoh.hero.boss:pipeline")
