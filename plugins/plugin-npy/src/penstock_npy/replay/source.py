"""The npy-files source: a directory of arrays and JSON as records."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import ConfigError, EndOfSource, SourceError, StoreError
from penstock.identity import named_number, part_number
from penstock.record import Record
from penstock.record_size import size_of
from penstock.short_text import short
from penstock.validators import name, not_negative, or_none, positive
from penstock_npy.index import fields_of
from penstock_npy.json_form import unmerged
from penstock_npy.replay.kinds import DAMAGED, Piece, pieces, stack_of
from penstock_npy.replay.listing import Listing
from penstock_npy.replay.order import field_of
from penstock_npy.replay.selection import printable

_MOST_BYTES = 16 << 20
_NEVER = 1 << 62
_NOWHERE = _NEVER, _NEVER
"""A position after the end of any file: a damaged file is not read further."""
_REFUSED = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENAMETOOLONG}


@attrs.define(eq=False, kw_only=True)
class _Reading:
    """The file whose records are being returned."""

    name: str
    pieces: Generator[Piece, None, tuple[int, int]]
    has_parts: bool
    fields: dict[str, Any] | None
    named: dict[str, Any]
    time_ns: int
    lines: Iterator[tuple[int, dict[str, Any]]]
    _ahead: tuple[int, dict[str, Any]] = (-1, {})

    def line_of(self, piece: Piece) -> dict[str, Any] | None:
        """Return the fields that the index keeps for a line. Raises ValueError if they are damaged."""
        while self._ahead[0] < piece.begin:
            self._ahead = next(self.lines, (_NEVER, {}))
        return fields_of(self._ahead[1]) if self._ahead[0] == piece.begin else None


def _as_text(path: Any) -> Any:
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def _is_text(_: object, __: object, path: Any) -> None:
    if not isinstance(path, str):
        raise ConfigError(f"path={short(path)}: must be a path, or a pattern of paths")


@checks_arguments
@attrs.define(kw_only=True)
class NpyFilesSource:
    """Read the files of a directory as records, in a chosen order.

    A `.npy` gives its array, a `.npz` a mapping of its arrays, a `.json` its value, a `.jsonl` the value of each line;
    the files of an npy-stack give each frame. Of an archive of the npy store, or of the json store with `lines`, each
    record has the channel, seq, time, coordinates and metadata that its index or sidecar keeps; each sub-array of one
    that was split has a number derived from its seq. Of other files a record has what `path`, a template, finds in the
    name, and its name as metadata `path`; its time is that of the file, its channel the directory's name (of a
    `.jsonl`, the file's), and its seq a number given to each file in the order in which the files are (in a `.jsonl` of
    its own channel, the number of the line, from 0).

    **Files that are still written** are never given. Stores of penstock, rsync and others write to names that begin
    with "." or end otherwise, which are left alone. Of writers that use the final name: a file that changed within
    `settle_s` is given once it is whole by its own format (a `.npy` has the size that its header says, a `.npz` its
    directory, a `.json` can be parsed, a `.jsonl` ends with a newline), and until then comes after the others. One that
    is preallocated looks whole from the start; `min_age_s` leaves it alone until its writer has paused so long.

    **Damaged files** are refused one by one, with the reason: a run dead-letters them. One that vanishes before it is
    read counts as lost upstream. One that is replaced after it was given does not come again.

    Attributes:
        path: A template ("archive/{{ channel }}/{{ '%06d' % seq }}.npy"), a glob ("in/**/*.npz"), a directory, or one
            file. The files are below the part before the first variable or "*".
        order_by: "name" sorts as people count ("a2" before "a10"); "mtime" by the time of the last change; any other
            text by a field from the template, the index or the sidecar: "seq", "time_ns", "coords.z", "metadata.run",
            or "z" of whichever has it. A file that lacks it is refused. Equal ones come by name.
        channel: The channel of records for which nothing else names one; None: see above.
        merge_metadata: True takes the key "metadata" of JSON as metadata, as the json store writes it.
        follow: True waits for ever for new files, and for lines and frames that are added. Files that arrive
            later are sorted among themselves, behind those that are numbered already.
        poll_s: Seconds between two listings of a directory that is followed; None has the system report changes, which
            it does not for network shares.
        settle_s: Seconds without a change after which a file that is not whole counts as damaged.
        min_age_s: Seconds for which a file must not have changed to be given.
        state: A file that keeps the number of each file and the committed positions, so that a later run continues with
            the others, and with later additions. None: each run starts over.
    """

    gives: ClassVar[str] = "any"
    stays_valid: ClassVar[bool] = True

    path: str = attrs.field(converter=_as_text, validator=_is_text)
    order_by: str = attrs.field(default="name", validator=name)
    channel: str | None = None
    merge_metadata: bool = False
    follow: bool = False
    poll_s: float | None = attrs.field(default=None, validator=or_none(positive))
    settle_s: float = attrs.field(default=2.0, validator=not_negative)
    min_age_s: float = attrs.field(default=0.0, validator=not_negative)
    state: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    _listing: Listing | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _reading: _Reading | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _refused: list[tuple[Record, BaseException]] = attrs.field(factory=list, init=False, repr=False, eq=False)
    _lost: dict[str, int] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _woken: bool = attrs.field(default=False, init=False, repr=False, eq=False)

    def open(self) -> None:
        """List the files.

        Raises:
            SourceError: there is no such directory, the template is none, or the state is damaged or in use.
        """
        self.close()
        self._refused, self._lost = [], {}
        try:
            self._listing = Listing(
                path=self.path,
                order_by=self.order_by,
                follow=self.follow,
                poll_s=self.poll_s,
                settle_s=self.settle_s,
                min_age_s=self.min_age_s,
                state=self.state,
            )
            self._listing.open()
        except StoreError as error:
            self.close()
            raise SourceError(f"{self.state}: another source uses this state; give each its own") from error
        except BaseException:
            self.close()
            raise

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the next records. Raises EndOfSource, unless it follows, SourceError, or OSError."""
        listing = self._opened()
        deadline_s = time.monotonic() + timeout_s
        records: list[Record] = []
        size_bytes = 0
        refused = len(self._refused)
        while len(records) < max_records and size_bytes < _MOST_BYTES:
            try:
                record = self._next(listing)
            except OSError:
                if records:
                    break  # return these first; the next call raises the error again
                raise
            if record is not None:
                records.append(record)
                size_bytes += size_of(record.data)
            elif records or len(self._refused) > refused or not self._wait(listing, deadline_s):
                break
        return records

    def wake(self) -> None:
        """Make a waiting `read` return at once; any thread."""
        self._woken = True
        listing = self._listing
        if listing is not None:
            listing.changed.set()

    def position(self) -> dict[str, Any]:
        """Return the number of the next file and, for files with several records, the progress in each."""
        return self._opened().position()

    def seek(self, position: Any) -> None:
        """Continue from a position. Raises TypeError, ValueError if it is not one of a source with these settings."""
        self._leave()
        self._opened().seek(position)

    def commit(self, position: Any) -> None:
        """Write a position to `state`. Raises OSError."""
        self._opened().commit(position)

    def take_refused(self) -> Sequence[tuple[Record, BaseException]]:
        """Return the damaged files, lines and frames found since the last call, each with the reason."""
        refused, self._refused = self._refused, []
        return refused

    def lost_upstream(self) -> Mapping[str, int]:
        """Return how many files were gone before they could be read."""
        return dict(self._lost)

    def lag(self) -> int:
        """Return how many files have not been returned yet."""
        listing = self._listing
        return 0 if listing is None else listing.waiting()

    def close(self) -> None:
        """Close the open files."""
        self._leave()
        listing, self._listing = self._listing, None
        if listing is not None:
            listing.close()

    def _opened(self) -> Listing:
        if self._listing is None:
            raise SourceError(f"NpyFilesSource {self.path!r} is not open; call open() first", retryable=False)
        return self._listing

    def _leave(self) -> None:
        """Close the file that is being read."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.pieces.close()

    def _wait(self, listing: Listing, deadline_s: float) -> bool:
        """Wait for more files; return whether to try again. Raises EndOfSource."""
        if listing.look():
            return True
        if not self.follow and not listing.waits:
            raise EndOfSource(f"{self.path}: no more files")
        left_s = deadline_s - time.monotonic()
        if self._woken or left_s <= 0:
            self._woken = False
            return False
        listing.changed.wait(min(left_s, listing.rest_s()))
        listing.changed.clear()
        return True

    def _next(self, listing: Listing) -> Record | None:
        """Return the next record; None if there is none now, or if the next one was refused or lost."""
        name = listing.head()
        while name is not None:
            try:
                reading = self._reading = self._reading or self._begun(listing, name)
                piece = next(reading.pieces)
            except StopIteration as stop:
                self._end(listing, name, stop.value)
                name = listing.head()
                continue
            except FileNotFoundError as error:
                if not listing.selection.root.is_dir():
                    raise
                if (listing.selection.root / name).exists():  # something beside it is gone
                    self._refuse(listing, name, error)
                    self._end(listing, name, _NOWHERE)
                    return None
                channel = self._channel(listing, name)
                self._lost[channel] = self._lost.get(channel, 0) + 1
                self._end(listing, name)
                return None
            except DAMAGED as error:
                self._refuse(listing, name, error)
                self._end(listing, name, _NOWHERE)
                return None
            except OSError as error:
                if error.errno not in _REFUSED:
                    self._leave()
                    raise
                self._refuse(listing, name, error)
                self._end(listing, name)
                return None
            return self._given(listing, reading, piece)
        return None

    def _given(self, listing: Listing, reading: _Reading, piece: Piece) -> Record | None:
        record = None
        try:
            if piece.error is not None:
                raise piece.error
            record = self._record(listing, reading, piece)
        except ValueError as error:
            self._refuse(listing, reading.name, error, piece.part if reading.has_parts else None)
        if reading.has_parts:
            listing.parts[reading.name] = piece.end
        else:
            self._end(listing, reading.name)
        return record

    def _end(self, listing: Listing, name: str, place: tuple[int, int] | None = None) -> None:
        has_parts = self._reading is not None and self._reading.has_parts
        self._leave()
        listing.finish(name, place if has_parts else None)

    def _begun(self, listing: Listing, name: str) -> _Reading:
        """Open the next file. Raises OSError, or ValueError if its index entry or sidecar is damaged."""
        path = listing.selection.root / name
        status = path.stat()
        stack = stack_of(str(path))
        parts = stack is not None or name.endswith(".jsonl")
        fields = None if parts else listing.known.of_file(name, status)
        named = listing.known.from_name(name) if fields is None else {}
        if self.order_by not in ("name", "mtime"):
            try:
                field_of(named if fields is None else fields, self.order_by)
            except KeyError:
                raise ValueError(f"order_by={self.order_by!r} is not known of it") from None
        place = listing.parts.get(name, (0, 0))
        to_end = time.time_ns() - status.st_mtime_ns >= self.settle_s * 1e9
        lines = listing.known.of_lines(name, place[1]) if name.endswith(".jsonl") else iter(())
        return _Reading(
            name=name,
            pieces=pieces(path, place, stack=stack, to_end=to_end),
            has_parts=parts,
            fields=fields,
            named=named,
            time_ns=status.st_mtime_ns,
            lines=lines,
        )

    def _record(self, listing: Listing, reading: _Reading, piece: Piece) -> Record:
        """Return the record of a piece. Raises ValueError if its fields are damaged."""
        data, name = piece.data, reading.name
        fields = reading.line_of(piece) if name.endswith(".jsonl") else piece.fields or reading.fields
        metadata: dict[str, Any] = {}
        if self.merge_metadata and name.endswith((".json", ".jsonl")):
            data, metadata = unmerged(data)
        if fields is not None:
            return Record(data, **fields)
        named = reading.named
        return Record(
            data,
            channel=self._channel(listing, name),
            seq=self._seq(listing, reading, piece),
            time_ns=named.get("time_ns", reading.time_ns),
            coords=named["coords"],
            metadata={**named["metadata"], **metadata},
        )

    def _channel(self, listing: Listing, name: str) -> str:
        channel = listing.known.from_name(name).get("channel", self.channel)
        if channel is not None:
            return str(channel)
        root = listing.selection.root
        return printable(name.removesuffix(".jsonl") if name.endswith(".jsonl") else root.absolute().name)

    def _seq(self, listing: Listing, reading: _Reading, piece: Piece) -> int:
        name = reading.name
        if not reading.has_parts:
            # In an archive with an index, one that it does not know gets the number that `penstock recover` gives it.
            number = listing.numbers[name] if listing.known.index is None else named_number(name)
            return int(reading.named.get("seq", number))
        # A file that is a channel of its own counts its lines; of others, each has a range of numbers.
        is_own = listing.selection.variables == {"channel"} or (self.channel is None and "channel" not in reading.named)
        return piece.part if is_own else part_number(self._channel(listing, name), listing.numbers[name], piece.part)

    def _refuse(self, listing: Listing, name: str, error: Exception, part: int | None = None) -> None:
        channel, number = self._channel(listing, name), listing.numbers[name]
        where = f"{listing.selection.root / name}"
        record = Record(
            None,
            channel=channel,
            seq=number if part is None else part_number(channel, number, part),
            metadata={"path": printable(name)},
        )
        own = SourceError(f"{where}: cannot be read: {error or type(error).__name__}", retryable=False)
        own.__cause__ = error
        self._refused.append((record, own))
