"""Every error that penstock raises: one tree, each also the built-in error that a caller would expect."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class PenstockError(Exception):
    """The root of the tree: catch this to catch every error of penstock itself."""


class ConfigError(PenstockError, ValueError):
    """A setting, a configuration or a pipeline file is wrong; the message starts with the path, `$.camera.rate`."""


class UnknownOptionError(ConfigError, TypeError):
    """A function or class was called with a keyword that it does not have; the message names the nearest one."""


class WiringError(PenstockError, ValueError):
    """Components are joined in a way that cannot work; found before anything opens."""


class PluginError(PenstockError):
    """A plugin or one of its components is faulty."""


class UnknownComponentError(PluginError, LookupError):
    """No plugin that works offers a component of this name; the message names close ones and plugins that failed."""


class AmbiguousComponentError(PluginError, LookupError):
    """Two plugins offer this name: write the qualified one, `penstock-npy:npy`."""


class ComponentLoadError(PluginError, ImportError):
    """A component is offered, but its module or the library it needs cannot be imported."""


class SourceError(PenstockError, RuntimeError):
    """A source cannot be opened or read.

    `retryable` is False where opening it again cannot help (a file that is not a video, an iterator that raised).
    """

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_retryable, (type(self), str(self), self.retryable)


class BufferReusedError(SourceError):
    """The memory of an array in flight was reused, and is overwritten. `array` is that array."""

    def __init__(self, message: str, *, retryable: bool = False, array: Any = None) -> None:
        super().__init__(message, retryable=retryable)
        self.array = array


class EndOfSource(PenstockError, EOFError):  # noqa: N818 - an event, not an error
    """Raised by `Source.read` when no more records will come."""


class DecodeError(PenstockError, ValueError):
    """A record cannot be decoded; those after it may be."""


class CodecError(PenstockError, ValueError):
    """These bytes are not a record, or this record cannot be written as bytes."""


class ReadOnlyError(PenstockError, TypeError):
    """Metadata or data shared with other nodes cannot be changed; return a new record instead."""

    retryable = False


class RecordFieldError(PenstockError, TypeError):
    """A record's own field (`seq`, `time_ns`, `channel`, …) has an invalid type and cannot be converted."""

    retryable = False


class TemplateError(PenstockError, ValueError):
    """A template uses a missing name or a forbidden operation, or leaves its root."""


class CoordinatesError(PenstockError, ValueError):
    """An axis or a value cannot be a coordinate, or two forms contradict each other."""


class StoreError(PenstockError, OSError):
    """A store could not write, read or sync.

    `failed` lists the records (`penstock.Record`) that were *not* written, each with its error; the others of the same
    call were written. An empty `failed` on an error from `write` means that none was written. `retryable` is False
    where trying again cannot help (the record itself is at fault).
    """

    def __init__(
        self, message: str, *, failed: Iterable[tuple[Any, BaseException]] = (), retryable: bool = True
    ) -> None:
        super().__init__(message)
        self.failed = tuple(failed)
        self.retryable = retryable

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_retryable, (type(self), str(self), self.retryable)


class RecordExistsError(StoreError, FileExistsError):
    """The store holds a record of this key already, and `when_exists` is "error"."""

    def __init__(
        self, message: str, *, failed: Iterable[tuple[Any, BaseException]] = (), retryable: bool = False
    ) -> None:
        super().__init__(message, failed=failed, retryable=retryable)


class ObjectNotFoundError(PenstockError, KeyError):
    """The store holds nothing of this key, name or id."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class CannotGetObjectError(PenstockError, LookupError):
    """The store holds something under this key, but it cannot be read back."""


class CannotConnectToStoreError(PenstockError, ConnectionError):
    """The store cannot be reached or opened."""


class RunError(PenstockError, RuntimeError):
    """A run cannot start, or its state forbids the request."""


class WorkerDiedError(PenstockError, RuntimeError):
    """The process of a component has died; its last work was not done, or not confirmed."""


class RemoteError(PenstockError, RuntimeError):
    """A component in another process raised an error whose class cannot be rebuilt in this process.

    The message begins with the name of the class; the cause holds the traceback of the other process.
    """


class RunFailedError(RunError):
    """A run has ended with problems; `report` is its `penstock.RunReport`."""

    def __init__(self, message: str, *, report: Any) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_report, (type(self), str(self), self.report)


class RunAborted(RunError):  # noqa: N818 - an event that ends a run, not a fault
    """The run is ending without draining; raised in everything that waits inside it."""


def _with_retryable(cls: Any, message: str, retryable: bool) -> Any:
    return cls(message, retryable=retryable)


def _with_report(cls: Any, message: str, report: Any) -> Any:
    return cls(message, report=report)
