"""LogArchiveReader: the entries of one source, from the archive that `compress_npy_logs` made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs
import numpy

from penstock.arguments import checks_arguments
from penstock.errors import CannotGetObjectError, ConfigError
from penstock_npy.npz_file import NpzFile

_HEAD = 9
_ONSET = 8


@attrs.define(frozen=True, eq=False)
class LogMessage:
    """One entry.

    Attributes:
        source_id: The source that logged it.
        timestamp: The time, as its source counted it.
        payload: (n,) uint8, read-only.
    """

    source_id: int
    timestamp: int
    payload: numpy.ndarray[Any, numpy.dtype[numpy.uint8]]


class LogArchiveReader:
    """Read an archive: any entry in constant time, or all in the order of their times.

    Opening reads only the end of the file. A reader may be sent to another process, which opens the file there; each
    thread needs a reader of its own. Use `with`, or `close`.

    Args:
        archive_path: An `.npz` made by `compress_npy_logs`.

    Raises:
        CannotGetObjectError: it is not such an archive.
        OSError: it cannot be read.
    """

    @checks_arguments
    def __init__(self, archive_path: Path) -> None:
        self._path = Path(archive_path)
        self._file = NpzFile(self._path)
        self._file.open()

    @property
    def message_count(self) -> int:
        """The number of entries."""
        return self._file.count

    @property
    def onset_timestamp_us(self) -> int | None:
        """The time when the clock of the source was 0, in microseconds since 1970 UTC; None if it is not in the log.

        It is the payload, an int64, of an entry of time 0.
        """
        first = self[0] if len(self) else None
        if first is None or first.timestamp or len(first.payload) != _ONSET:
            return None
        return int.from_bytes(first.payload.tobytes(), "little", signed=True)

    def __len__(self) -> int:
        return self._file.count

    def __getitem__(self, number: int) -> LogMessage:
        """Return an entry; negative numbers count from the end.

        Raises:
            IndexError: there is no such entry.
            CannotGetObjectError: it is damaged.
        """
        count = self._file.count
        if not -count <= number < count:
            raise IndexError(f"{self._path}: has no entry {number}, only {count} entries")
        number %= count
        return self._message(next(self._file.places(number, number + 1)))

    def __iter__(self) -> Iterator[LogMessage]:
        return self.iter_messages()

    def iter_messages(self, batch: Iterable[int] | None = None) -> Iterator[LogMessage]:
        """Yield all entries, or those with these numbers. Raises as `[]`."""
        if batch is None:
            batch = range(len(self))
        if isinstance(batch, range) and batch.step == 1 and batch.start >= 0 and batch.stop <= len(self):
            return map(self._message, self._file.places(batch.start, batch.stop))
        return (self[number] for number in batch)

    @checks_arguments
    def get_batches(self, workers: int = 1, batch_multiplier: int = 4) -> list[range]:
        """Return the numbers of all entries in ranges of similar size, `batch_multiplier` for each worker.

        A worker takes the reader and a range, and calls `iter_messages(batch)`.

        Raises:
            ConfigError: `workers` or `batch_multiplier` is less than 1.
        """
        if workers < 1 or batch_multiplier < 1:
            raise ConfigError(
                f"get_batches: workers={workers}, batch_multiplier={batch_multiplier}: both are at least 1"
            )
        count = len(self)
        parts = min(workers * batch_multiplier, count)
        return [range(count * part // parts, count * (part + 1) // parts) for part in range(parts)]

    def close(self) -> None:
        """Close the file, any number of times."""
        self._file.close()

    def _message(self, place: tuple[str, int, int, int]) -> LogMessage:
        content = self._file.content(place)
        if len(content) < _HEAD:
            raise CannotGetObjectError(f"{self._path}: entry {place[0]} is too short")
        payload = numpy.frombuffer(content, numpy.uint8, offset=_HEAD)
        return LogMessage(content[0], int.from_bytes(content[1:_HEAD], "little"), payload)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._path,)
