"""Types of the arguments of `ps.source` and the like, for type checkers.

The contracts require more than a type checker can check: these protocols have the methods only, with arguments of any
name. TypedDicts hold the options of a node and the settings of the built-in components; a test compares them with the
code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Protocol, Required, TypedDict

if TYPE_CHECKING:
    from penstock.compose.node import OnError, Place
    from penstock.compose.retry import Retry
    from penstock.record import Record

    AnyPath = str | PathLike[str]


class SourceShape(Protocol):
    """A source."""

    def open(self) -> object: ...
    def read(self, max_records: int, timeout_s: float, /) -> Sequence[Record]: ...
    def close(self) -> object: ...


class DecoderShape(Protocol):
    """A decoder of one channel."""

    def decode(self, record: Record, /) -> Iterable[Record]: ...
    def flush(self) -> Iterable[Record]: ...
    def reset(self) -> object: ...


class StoreShape(Protocol):
    """A store of records."""

    def open(self) -> object: ...
    def write(self, records: Sequence[Record], /) -> object: ...
    def sync(self) -> object: ...
    def close(self) -> object: ...


class StorageShape(Protocol):
    """A storage of data by coordinates."""

    def put(self, coords: Any, data: Any, metadata: Any, /) -> object: ...
    def get_data(self, coords: Any, /) -> Any: ...
    def get_metadata(self, coords: Any, /) -> Any: ...
    def finish(self) -> object: ...
    def close(self) -> object: ...


class NodeOptions(TypedDict, total=False):
    """The options of every node; see `penstock.Node`."""

    name: str | None
    workers: int
    ordered: bool
    place: Place
    retry: Retry | None
    on_error: OnError
    expect_every_s: float | None


class IterableSettings(NodeOptions, total=False):
    """The options of an iterable as a source."""

    channel: str | None
    reuses_buffers: bool | None


class NamedIterableSettings(IterableSettings, total=False):
    """The settings of the source "iterable"."""

    items: Required[Iterable[Any]]


class FilesSettings(NodeOptions, total=False):
    """The settings of the source "files"."""

    directory: Required[AnyPath]
    pattern: str
    channel: str | None
    state: AnyPath | None


class DeadLettersSettings(NodeOptions, total=False):
    """The settings of the source "dead-letters"."""

    directory: Required[AnyPath]
    node: str | None


class BatchSettings(NodeOptions, total=False):
    """The settings of the processor "batch"."""

    size: Required[int]
    timeout_s: float | None
    by_channel: bool
    stack: bool


class AlignSettings(NodeOptions, total=False):
    """The settings of the processor "align"."""

    channels: Required[Sequence[str]]
    tolerance_s: Required[float]
    deadline_s: float | None
    missing: Literal["wait", "skip", "none"]
    max_bytes: int | None


class FilterSettings(NodeOptions, total=False):
    """The settings of the processor "filter"."""

    channels: Sequence[str]
    coords: Mapping[str, int | str]
    metadata: Mapping[str, Any]


class SampleSettings(NodeOptions, total=False):
    """The settings of the processor "sample"."""

    every: Required[int]


class RateSettings(NodeOptions, total=False):
    """The settings of the processor "rate"."""

    per_s: Required[float]


class SplitSettings(NodeOptions, total=False):
    """The settings of the processor "split"."""

    axis: str


class MemorySettings(NodeOptions, total=False):
    """The settings of the store "memory"."""

    key: str | None
    capacity: int | None
    when_exists: Literal["error", "replace", "skip"]


class LogSettings(NodeOptions, total=False):
    """The settings of the store "log"."""

    path: Required[AnyPath]


SETTINGS: dict[tuple[str, str], type] = {
    ("source", "iterable"): NamedIterableSettings,
    ("source", "files"): FilesSettings,
    ("source", "dead-letters"): DeadLettersSettings,
    ("processor", "batch"): BatchSettings,
    ("processor", "align"): AlignSettings,
    ("processor", "filter"): FilterSettings,
    ("processor", "sample"): SampleSettings,
    ("processor", "rate"): RateSettings,
    ("processor", "split"): SplitSettings,
    ("store", "memory"): MemorySettings,
    ("store", "log"): LogSettings,
}
"""The settings of built-in components by role and name; components that are missing take none, or objects."""
