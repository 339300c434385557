"""The files below a directory that are data, by a template, a glob or a directory, and the fields in their names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from penstock.templates import Template
from penstock_npy.folder import SIDECAR
from penstock_npy.names import NamePattern
from penstock_npy.stack_file import FORMAT, origin_of

SUFFIXES = (".npy", ".npz", ".json", ".jsonl")
_MAGIC = re.compile(r"[*?\[]")
_GLOB = re.compile(r"\*\*/|\*|\?|\[!?\]?[^\]/]*\]")


def printable(name: str) -> str:
    """Return a name of a file as text that is valid everywhere: bytes that are not UTF-8 are escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@attrs.define(eq=False)
class Selection:
    """The files that match a path.

    Names are relative to the root, with "/". Names with a part that begins with "." are never data, so that temporary
    files of stores, rsync and others are left out, and neither are what stores keep beside their arrays: `….npy.json`,
    and the times and lines of a stack.

    Attributes:
        root: The directory that contains them.
        variables: The variables of the template; empty for a glob and for a directory.
    """

    root: Path
    variables: frozenset[str]
    _template: NamePattern | None
    _pattern: re.Pattern[str]

    @classmethod
    def of(cls, path: str) -> Selection:
        """Return the selection of a template, of a glob, of a directory or of one file."""
        if "{{" in path or "{%" in path:
            template = Template(path)
            return cls(Path(template.root), template.variables, NamePattern(path), re.compile(""))
        whole = Path(path).expanduser()
        if not _MAGIC.search(path) or whole.exists():
            root, glob = (whole.parent, _literal(whole.name)) if whole.is_file() else (whole, "**/*")
        else:
            parts = whole.as_posix().split("/")
            first = next(number for number, part in enumerate(parts) if _MAGIC.search(part))
            root, glob = Path("/".join(parts[:first]) or ("/" if whole.is_absolute() else ".")), "/".join(parts[first:])
        return cls(root, frozenset(), None, re.compile(_translated(glob), re.DOTALL))

    def names(self) -> Iterator[str]:
        """Yield the names of the existing files, in no order. Raises OSError if the root cannot be listed."""
        yield from self._below("")

    def below(self, directory: str) -> Iterator[str]:
        """Yield the names of those in a directory below the root, if none of its parts begins with "."."""
        if not any(part.startswith(".") for part in directory.split("/")):
            yield from self._below(f"{directory}/")

    def _below(self, prefix: str) -> Iterator[str]:
        try:
            with os.scandir(self.root / prefix) as entries:
                found = [(entry.name, entry.is_dir()) for entry in entries]
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            if not prefix:
                raise
            return
        for name, is_directory in found:
            if is_directory and not name.startswith("."):
                yield from self._below(f"{prefix}{name}/")
            elif not is_directory and self.has(prefix + name):
                yield prefix + name

    def has(self, name: str) -> bool:
        """Return whether a file of this name is data."""
        if not name.endswith(SUFFIXES) or name.startswith(".") or "/." in name or name.endswith(f".npy{SIDECAR}"):
            return False
        if self._template is None:
            if self._pattern.fullmatch(name) is None:
                return False
        elif self._template.read(printable(name)) is None:
            return False
        return not self._is_beside_a_stack(name)

    def from_name(self, name: str) -> dict[str, Any]:
        """Return the fields of a record that the template finds in the name; none without one."""
        return {} if self._template is None else self._template.read(printable(name)) or {}

    def _is_beside_a_stack(self, name: str) -> bool:
        if name.endswith(".jsonl"):
            try:
                with (self.root / name).open("rb") as file:
                    return FORMAT.encode("ascii") in file.readline(4096)
            except OSError:
                return False
        return name.endswith(".times.npy") and self._is_stack(name.removesuffix(".times.npy"))

    def _is_stack(self, stem: str) -> bool:
        return origin_of(self.root / f"{stem}.npy") is not None


def _literal(name: str) -> str:
    return _MAGIC.sub(lambda found: f"[{found[0]}]", name)


def _translated(glob: str) -> str:
    """Return the regular expression of a glob: "*" and "?" stop at "/", "**/" does not."""
    parts, end = [], 0
    for found in _GLOB.finditer(glob):
        parts.append(re.escape(glob[end : found.start()]))
        text, end = found[0], found.end()
        if text == "**/":
            parts.append("(?:.*/)?")
        elif text in "*?":
            parts.append("[^/]*" if text == "*" else "[^/]")
        else:
            inside = text[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            parts.append(f"[^{inside[1:]}]" if inside[:1] == "!" else f"[{inside}]")
    return "".join([*parts, re.escape(glob[end:])])
