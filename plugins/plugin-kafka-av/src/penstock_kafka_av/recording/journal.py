"""The journal of a video file: a JSON Lines file that describes its fragments.

The first line describes the segment: `penstock` ("video segment"), `channel`, `codec`, `width`, `height`, `segment`
(its number in the channel), `begin_ns` (`time_ns` of the record at pts 0), `replace`, for packets `track` (the header
data with which a next file can begin between keyframes), and `leads_in` (true if this file begins between keyframes).
Each further line describes a complete fragment: its `offset` and `size_bytes` in the file, `packets` (their number),
`seqs` (runs [first, last] of the records), `time_ns` ([first, last]); and if there are any, `gaps` ([[seq before, seq
after], …]: missing numbers between them), `discontinuities` (seqs of records that do not continue the previous one) and
`moved` (seqs of records whose time did not increase and was therefore raised).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

KIND = "video segment"
PART = ".part"
SUFFIX = ".jsonl"


def part_of(path: Path) -> Path:
    """Return the name of an unfinished video: "front.part.mp4" for "front.mp4"."""
    return path.with_name(f"{path.stem}{PART}{path.suffix}")


def whole_of(part: Path) -> Path:
    """Return the final name of an unfinished video."""
    return part.with_name(f"{part.stem.removesuffix(PART)}{part.suffix}")


def is_part(path: Path) -> bool:
    """Return whether this is the name of an unfinished video."""
    return path.stem.endswith(PART)


def journal_of(path: Path) -> Path:
    """Return the name of a video's journal."""
    return path.with_name(path.name + SUFFIX)


def video_of(journal: Path) -> Path:
    """Return the name of a journal's video."""
    return journal.with_name(journal.name.removesuffix(SUFFIX))


def line_of(entry: Mapping[str, Any]) -> bytes:
    """Return an entry as a line of a journal."""
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def runs_of(seqs: Sequence[int]) -> list[list[int]]:
    """Return increasing numbers as runs [first, last] of consecutive ones."""
    runs: list[list[int]] = []
    for seq in seqs:
        if runs and seq == runs[-1][1] + 1:
            runs[-1][1] = seq
        elif not runs or seq != runs[-1][1]:
            runs.append([seq, seq])
    return runs


@attrs.frozen
class Journal:
    """The content of a journal.

    Attributes:
        segment: Its first line.
        fragments: Its other lines.
        ends: The end of each line of `fragments` in the journal, as byte offsets.
        head_bytes: The end of the first line, as a byte offset.
    """

    segment: Mapping[str, Any]
    fragments: Sequence[Mapping[str, Any]]
    ends: Sequence[int]
    head_bytes: int

    def runs(self) -> Iterator[list[int]]:
        """Yield the runs [first, last] of all records."""
        for fragment in self.fragments:
            yield from fragment["seqs"]


def read_journal(content: bytes) -> Journal | None:
    """Return the content of a journal up to its first incomplete or invalid line; None if it is not a journal."""
    lines = content.split(b"\n")[:-1]  # a line without a newline is incomplete
    entries: list[Mapping[str, Any]] = []
    ends: list[int] = []
    at = 0
    for line in lines:
        at += len(line) + 1
        try:
            each = json.loads(line)
        except ValueError:
            break
        if not isinstance(each, dict) or (entries and not _is_fragment(each)):
            break
        entries.append(each)
        ends.append(at)
    if not entries or entries[0].get("penstock") != KIND or not isinstance(entries[0].get("channel"), str):
        return None
    return Journal(entries[0], entries[1:], ends[1:], ends[0])


def _is_fragment(entry: Mapping[str, Any]) -> bool:
    seqs = entry.get("seqs")
    return (
        all(type(entry.get(name)) is int and entry[name] >= 0 for name in ("offset", "size_bytes"))
        and isinstance(seqs, list)
        and all(isinstance(run, list) and len(run) == 2 and all(type(seq) is int for seq in run) for run in seqs)
    )
