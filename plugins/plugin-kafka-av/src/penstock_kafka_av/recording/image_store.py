"""ImageStore: writes each record's picture as a PNG or JPEG file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, get_args

import attrs
import av

from penstock.arguments import checks_arguments
from penstock.errors import (
    CannotGetObjectError,
    CoordinatesError,
    ObjectNotFoundError,
    RecordExistsError,
    StoreError,
)
from penstock.record import Record
from penstock.store import Key
from penstock.templates import Template, is_template
from penstock.validators import between, one_of
from penstock_kafka_av.recording.encoding import as_picture
from penstock_kafka_av.recording.failures import one_error
from penstock_kafka_av.recording.image import KINDS, ImageEncoder, decode_image
from penstock_kafka_av.recording.naming import WhenExists, name_of, numbered_name, open_template, path_of
from penstock_kafka_av.recording.whole_file import WholeFiles

_MOST_NUMBERED = 10_000


@attrs.define(eq=False)
class _Open:
    """The state of an open store."""

    template: Template
    root: Path
    encoder: ImageEncoder
    files: WholeFiles = attrs.field(factory=WholeFiles)
    numbers: dict[Path, int] = attrs.field(factory=dict)  # the last number tried for each taken name


@checks_arguments
@attrs.define(kw_only=True)
class ImageStore:
    """Write each record's picture as one PNG or JPEG file, atomically.

    A picture is an array: uint8 (height, width, 3) in BGR order, or RGB if `metadata["pixel_format"]` is "rgb24"; uint8
    (height, width); or, in PNG, uint16 (height, width). Pictures of a decoder with `pixel_format="lazy"` work too. PNG
    is lossless. The key of a record is its path below the root; `get` returns the picture, in BGR order if it has
    colours, without the record's other fields.

    Durability: after `kill -9`, each file is complete or absent. Files are durable after the next `sync`; a power
    failure before that may leave a file missing, empty or truncated, which `get` detects.

    Attributes:
        path: Template of the files' paths, "{{ channel }}/{{ '%06d' % seq }}.png", ending in ".png", ".jpg" or ".jpeg".
        root: Directory that contains all files; None uses the part of `path` before its first variable.
        quality: JPEG quality, from 1 to 100 (best).
        compression: PNG compression level, from 0 (fast) to 9 (small).
        when_exists: Reaction to an existing file: "error" raises RecordExistsError, "skip" keeps the file and drops the
            record, "replace" overwrites, "number" uses the next free name: "a.png", "a-1.png".
    """

    takes: ClassVar[str] = "any"

    path: str = attrs.field(validator=is_template)
    root: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    quality: int = attrs.field(default=90, validator=between(1, 100))
    compression: int = attrs.field(default=3, validator=between(0, 9))
    when_exists: WhenExists = attrs.field(default="error", validator=one_of(*get_args(WhenExists)))
    _open: _Open | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Compile the template, and check that the root is writable; the first record creates directories.

        Raises:
            TemplateError: the template cannot be compiled.
            CannotConnectToStoreError: the root is not a writable directory, or `path` has another suffix.
        """
        template = open_template(self.path, self.root, suffixes=KINDS, where=self._where)
        encoder = ImageEncoder(KINDS[Path(self.path).suffix], self.quality, self.compression)
        self._open = _Open(template, Path(template.root), encoder)

    def write(self, records: Sequence[Record]) -> None:
        """Write each record's picture to its file; existing files are handled by `when_exists`.

        Raises:
            RecordExistsError: all failed records have existing files.
            StoreError: it lists the records that were not written; others are. Not retryable for data that are not a
                picture, retryable for errors of the disk.
        """
        state = self._opened()
        failed: list[tuple[Record, BaseException]] = []
        for record in records:
            try:
                self._write(state, record)
            except StoreError as error:
                failed.append((record, error))
            except OSError as error:
                own = StoreError(f"{self._where}: {name_of(record)} cannot be written: {error}")
                own.__cause__ = error
                failed.append((record, own))
        if failed:
            raise one_error(failed, len(records), where=self._where)

    def sync(self) -> None:
        """Make all written files durable. Raises StoreError, retryable unless a file was removed."""
        try:
            self._opened().files.sync()
        except FileNotFoundError as error:
            raise StoreError(
                f"{self._where}: {error.filename} was removed before it was durable; do not remove files while the "
                "store is open",
                retryable=False,
            ) from error
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{self._where}: the images written cannot be made durable: {error}") from error

    def close(self) -> None:
        """Make all written files durable; may be called any number of times. Raises StoreError."""
        if self._open is not None:
            try:
                self.sync()
            finally:
                self._open = None

    def key_of(self, record: Record) -> Key:
        """Return the path below the root, with "/". Raises StoreError if the template cannot be rendered."""
        state = self._opened()
        return path_of(state.template, record, where=self._where).relative_to(state.root).as_posix()

    def get(self, key: Key) -> Record:
        """Return the picture of this key as a record whose `time_ns` is the file's modification time.

        Raises:
            ObjectNotFoundError: there is no such file.
            CannotGetObjectError: the file is damaged or unreadable.
        """
        path = self._file_of(key)
        if path is None:
            raise ObjectNotFoundError(f"{self._where}: has no key {key!r} below {self._opened().root}")
        try:
            picture, form = decode_image(path.read_bytes(), KINDS[path.suffix])
            time_ns = path.stat().st_mtime_ns
        except (OSError, ValueError) as error:
            raise CannotGetObjectError(f"{self._where}: {path} cannot be read: {error}") from error
        return Record(picture, time_ns=time_ns, metadata={"pixel_format": form})

    def keys(self, **coords: Any) -> Iterator[Key]:
        """Yield all keys in sorted order. Raises CoordinatesError for any coordinates, since it keeps none."""
        if coords:
            raise CoordinatesError(
                f"{self._where}: keeps no coordinates; put them into the path, or call keys() without any"
            )
        state = self._opened()
        return _below(state.root, "", Path(self.path).suffix)

    def __contains__(self, key: object) -> bool:
        return self._file_of(key) is not None

    def __len__(self) -> int:
        return sum(1 for _ in self.keys())

    @property
    def _where(self) -> str:
        return f"ImageStore {self.path!r}"

    def _opened(self) -> _Open:
        if self._open is None:
            raise StoreError(f"{self._where}: is not open; call open() first", retryable=False)
        return self._open

    def _write(self, state: _Open, record: Record) -> None:
        path = path_of(state.template, record, where=self._where)
        if self.when_exists == "skip" and os.path.lexists(path):
            return
        try:
            content = state.encoder.encode(*as_picture(record.data, record.metadata.get("pixel_format")))
        except (ValueError, av.FFmpegError) as error:
            raise StoreError(f"{self._where}: {name_of(record)} {error}", retryable=False) from error
        base, number = path, 0
        while True:
            try:
                state.files.write(path, content, replace=self.when_exists == "replace")
                return
            except FileExistsError:
                if self.when_exists == "skip":
                    return
                if self.when_exists != "number":
                    raise RecordExistsError(
                        f"{self._where}: {name_of(record)}: {path} exists already; put {{{{ channel }}}} and "
                        "{{ '%06d' % seq }} into the path, or set when_exists='skip' or 'replace' for records that "
                        "repeat after a restart"
                    ) from None
            number = max(number, state.numbers.pop(base, 0)) + 1
            state.numbers[base] = number
            if len(state.numbers) > _MOST_NUMBERED:
                del state.numbers[next(iter(state.numbers))]
            path = numbered_name(base, number)

    def _file_of(self, key: object) -> Path | None:
        """Return the file of a key, or None if it does not exist or lies outside the root."""
        root = self._opened().root
        if not isinstance(key, str) or not key.endswith(Path(self.path).suffix) or "\0" in key:
            return None
        pure = PurePosixPath(key)
        if pure.is_absolute() or ".." in pure.parts or pure.as_posix() != key:
            return None
        path = root / pure
        try:
            return path if path.is_file() and path.resolve().is_relative_to(root.resolve()) else None
        except OSError:  # e.g. a name that is too long
            return None


def _below(root: Path, prefix: str, suffix: str) -> Iterator[Key]:
    try:
        with os.scandir(root / prefix) as entries:
            found = sorted(f"{each.name}/" if each.is_dir(follow_symlinks=False) else each.name for each in entries)
    except FileNotFoundError:
        return
    for name in found:
        if name.endswith("/"):
            yield from _below(root, prefix + name, suffix)
        elif name.endswith(suffix):
            yield prefix + name
