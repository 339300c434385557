"""Naming: the file names of segments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import attrs

from penstock.errors import CannotConnectToStoreError, RecordExistsError, StoreError, TemplateError
from penstock.record import Record
from penstock.templates import Template
from penstock_kafka_av.recording.journal import journal_of, part_of

WhenExists = Literal["error", "number", "replace", "skip"]
SEGMENT = "segment"


def name_of(record: Record) -> str:
    """Return a description of a record for error messages."""
    return f"record {record.seq} of channel {record.channel[:80]!r}"


def open_template(path: str, root: Path | None, *, suffixes: Iterable[str], where: str) -> Template:
    """Compile a template of paths, and check that its root is writable, without creating it.

    Raises:
        TemplateError: the template cannot be compiled.
        CannotConnectToStoreError: the path has another suffix, or the root is not a writable directory.
    """
    template = Template(path, root=root)
    known = sorted(suffixes)
    if Path(path).suffix not in known:
        raise CannotConnectToStoreError(f"{where}: the file name must end in {' or '.join(known)}")
    above = Path(template.root)
    while not os.path.exists(above) and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise CannotConnectToStoreError(f"{where}: {above} is a file; give a root that is a directory")
    if not os.access(above, os.W_OK | os.X_OK):
        raise CannotConnectToStoreError(
            f"{where}: no permission to write to {above}; change its permissions or the path"
        )
    return template


def names_of(text: str, *, has_root: bool) -> re.Pattern[str]:
    """Return a pattern for the ends of the paths that a template can render, with numbers appended to equal names.

    >>> names = names_of("videos/low-{{ channel }}.mp4", has_root=False)
    >>> [bool(names.search(each)) for each in ("videos/low-a-1.mp4", "videos/high-a.mp4", "videos/b/flow-a.mp4")]
    [True, False, False]
    """
    if "{%" in text or "{#" in text:
        return re.compile("")
    if not has_root:  # the directories before the first variable are the root
        begin = text.partition("{{")[0].rfind("/") + 1
        text = text[begin:]
    stem, suffix = os.path.splitext(text)
    literals = re.split(r"\{\{.*?\}\}", stem, flags=re.DOTALL)
    return re.compile(rf"(?:^|/){'.*'.join(map(re.escape, literals))}(?:-\d+)?{re.escape(suffix)}$", re.DOTALL)


def path_of(template: Template, record: Record, *, where: str) -> Path:
    """Return the path of a record's file. Raises StoreError (not retryable) if the template cannot be rendered."""
    try:
        return template.path(record)
    except TemplateError as error:
        raise StoreError(f"{where}: {name_of(record)}: {error}", retryable=False) from error


@attrs.define(eq=False)
class Naming:
    """Name the segments of one channel.

    Attributes:
        where: Prefix of error messages.
        template: Template of the paths.
        when_exists: Reaction to an existing file that this run did not write.
        next_segment: The number of the next segment.
    """

    where: str
    template: Template
    when_exists: WhenExists
    next_segment: int = 0
    _last: Path | None = None  # as rendered by the template
    _number: int = 0  # of the last one of that name
    _chosen: tuple[Path | None, int] = (None, 0)

    def choose(self, record: Record) -> tuple[Path, bool]:
        """Return the path of the segment that begins with this record, and whether it may replace a file.

        If the template renders the same name as for the previous segment, the next number is appended: "front-1.mp4".

        Raises:
            RecordExistsError: the name is taken.
            StoreError: the template cannot be rendered for this record.
        """
        numbered_record = record.replace(metadata={**record.metadata, SEGMENT: self.next_segment})
        base = path = path_of(self.template, numbered_record, where=self.where)
        number = 0
        if base == self._last:
            number = self._number + 1
            path = numbered_name(base, number)
        replaces = self.when_exists == "replace"
        while _is_taken(path, replaces=replaces):
            if self.when_exists in ("error", "replace") and base != self._last:
                raise self._taken(record, path)
            number += 1
            path = numbered_name(base, number)
        self._chosen = base, number
        return path, replaces

    def begun(self) -> None:
        """Note that a segment has begun under the chosen name."""
        self._last, self._number = self._chosen
        self.next_segment += 1

    def _taken(self, record: Record, path: Path) -> RecordExistsError:
        if os.path.lexists(journal_of(part_of(path))):
            reason = "is being written by another channel or process; put {{ channel }} into the path"
        else:
            reason = (
                "exists already; put {{ time|strftime('%Y-%m-%d-%H%M%S') }} or {{ segment }} into the path, or set "
                "when_exists='skip', 'number' or 'replace'"
            )
        return RecordExistsError(f"{self.where}: {name_of(record)}: {path} {reason}")


def numbered_name(base: Path, number: int) -> Path:
    """Return "front-1.mp4" for "front.mp4" and 1, and the unchanged name for 0."""
    return base.with_name(f"{base.stem}-{number}{base.suffix}") if number else base


def _is_taken(path: Path, *, replaces: bool) -> bool:
    return os.path.lexists(journal_of(part_of(path))) or (not replaces and os.path.lexists(path))
