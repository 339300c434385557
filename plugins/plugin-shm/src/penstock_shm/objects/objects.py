"""The store `shm-objects`: records in memory that every process on this machine can find by name and id."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs

from penstock.arguments import checks_arguments
from penstock.codec.encoders import Encoder, Encoders, checked_encoders
from penstock.errors import (
    CannotConnectToStoreError,
    CodecError,
    ConfigError,
    ObjectNotFoundError,
    PenstockError,
    RecordExistsError,
    StoreError,
)
from penstock.record import Record
from penstock_shm.directory import check_name, path_of, root, tidy, to_file_name, usable
from penstock_shm.objects.notifier import Notifier, notify
from penstock_shm.objects.object_file import Content, ObjectInfo, read_content, read_info, to_pieces, write_file
from penstock_shm.objects.object_index import SUBSCRIBER, ObjectIndex
from penstock_shm.objects.object_watch import Changes, NewObjects

_FULL = (errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EDQUOT)


def _store_name(_: object, __: object, value: str) -> None:
    check_name(value, "shm-objects: store_name")


@checks_arguments
@attrs.define
class ShmObjectStore:
    """Keep objects in memory for all processes of this machine (and user); no server is needed.

    Each object is a file in /dev/shm: whole or absent, also when its writer is killed. Arrays returned are views of
    that memory, read-only, and stay valid after the object is deleted or replaced, as long as they are referred to.
    Objects stay until they are deleted, `destroy` is called, or `penstock_shm.clean` finds that no process has the
    store open; they do not outlive the machine's memory.

    Types that the codec does not support need encoders: that of scipy's sparse matrices is built in, others are
    registered, under the same name, with the store that puts and with the one that gets. Nothing is ever pickled.

    Attributes:
        store_name: Any text; all processes of one user that use it share the store.
        max_bytes: Upper limit for the size of its objects; None: the size of /dev/shm.
        when_full: "refuse" raises a StoreError, "spill" writes the object to disk, from where `get` reads it as before.
            Nothing is ever evicted.
        spill_directory: The directory on disk; required for "spill".
        when_exists: The action of `write` and `put` if the name is taken: "error" or "replace".
        create: Whether `open` creates the store if it does not exist; False: CannotConnectToStoreError.
        encoders: Encoders for types of your own; `register` adds more.
    """

    takes: ClassVar[str] = "any"

    store_name: str = attrs.field(default="default", validator=_store_name)
    max_bytes: int | None = attrs.field(default=None, kw_only=True)
    when_full: Literal["refuse", "spill"] = attrs.field(default="refuse", kw_only=True)
    spill_directory: str | None = attrs.field(default=None, kw_only=True)
    when_exists: Literal["error", "replace"] = attrs.field(default="error", kw_only=True)
    create: bool = attrs.field(default=True, kw_only=True)
    encoders: tuple[Encoder, ...] = attrs.field(default=(), kw_only=True, converter=checked_encoders)
    _encoders: Encoders = attrs.field(init=False, repr=False, eq=False)
    _index: ObjectIndex | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _user: int = attrs.field(default=-1, init=False, repr=False, eq=False)
    _notifiers: list[Notifier] = attrs.field(factory=list, init=False, repr=False, eq=False)

    @_encoders.default
    def _make_encoders(self) -> Encoders:
        return Encoders(self.encoders)

    def __attrs_post_init__(self) -> None:
        if self.when_full == "spill" and not self.spill_directory:
            raise ConfigError("shm-objects: when_full='spill' needs spill_directory, a directory on a disk")

    # -- life --------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the store, and create it if it is missing.

        Raises:
            CannotConnectToStoreError: not Linux, or the directory cannot be used; or there is no store of this name,
                and `create` is False.
        """
        if self._index is not None:
            raise StoreError(f"shm-objects {self.store_name!r}: is open already; close it first", retryable=False)
        index, user = ObjectIndex(path_of("objects", self.store_name)), -1
        try:
            with usable(f"shm-objects {self.store_name!r}"), index.changing(make=self.create):
                user = os.open(index.path / ".users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(user, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    index.begin_session()  # no other process has it open
                fcntl.flock(user, fcntl.LOCK_SH)  # seen by `clean`: in use
                index.count_again()
        except BaseException as error:
            if user >= 0:
                os.close(user)
            if isinstance(error, FileNotFoundError) and not self.create:
                tidy(index.path.parent)
                raise CannotConnectToStoreError(
                    f"shm-objects {self.store_name!r}: there is no store of this name; open it first in the "
                    "process that creates it, or with create=True"
                ) from error
            raise
        self._index, self._user = index, user

    def close(self) -> None:
        """End the subscriptions and close the store. Its objects stay, and those returned by `get` stay valid."""
        for notifier in self._notifiers:
            notifier.close()
        self._notifiers.clear()
        self._index = None
        user, self._user = self._user, -1
        if user >= 0:
            os.close(user)

    def reset(self) -> None:
        """Close and open again, as after an error; subscriptions end."""
        self.close()
        self.open()

    def destroy(self) -> None:
        """Close, and remove the store with all its objects, those on disk too."""
        self.close()
        index = ObjectIndex(path_of("objects", self.store_name))
        with contextlib.suppress(FileNotFoundError), index.changing():
            for key in index.ids():
                index.remove(key, "")
            for name in os.listdir(index.path):
                os.unlink(index.path / name)
            tidy(index.path)

    # -- the contract of a store -------------------------------------------------------------------------------------

    def write(self, records: Sequence[Record]) -> None:
        """Put each record under the name that `key_of` returns."""
        failed: list[tuple[Record, BaseException]] = []
        for record in records:
            try:
                self.put(record, self.key_of(record))
            except StoreError as error:
                failed.append((record, error))
            except (CodecError, ConfigError) as error:  # ConfigError: a name that is too long, or holds NUL
                failed.append((record, StoreError(f"shm-objects {self.store_name!r}: {error}", retryable=False)))
        if failed:
            first = failed[0][1]
            kind = type(first) if isinstance(first, StoreError) else StoreError
            retryable = any(isinstance(e, StoreError) and e.retryable for _, e in failed)
            raise kind(str(first), failed=failed, retryable=retryable) from first

    def sync(self) -> None:
        """Return at once: objects survive this process but, being in memory, not a restart of the machine."""
        self._get_index()

    def key_of(self, record: Record) -> str:
        """Return the name under which `write` keeps this record: "channel/seq"."""
        return f"{record.channel}/{record.seq}"

    # -- objects -----------------------------------------------------------------------------------------------------

    def put(self, data: Any, name: str = "", *, queue: str = "") -> str:
        """Store a record, or any object that a record can hold or that has an encoder, and return its id.

        It is a snapshot: the data may be changed afterwards.

        Raises:
            RecordExistsError: the name is taken, and `when_exists` is "error".
            StoreError: the store is full, and `when_full` is "refuse" or spilling failed.
            CodecError: the data cannot be encoded, and no encoder is registered for their type.
        """
        index = self._get_index()
        if name:
            check_name(name, "shm-objects: name")
        if name and self.when_exists == "error" and index.find(name) is not None:
            raise self._exists(name)
        temporary = self._prepare(index, data, name, queue)
        try:
            with self._changing(index):
                found = index.find(name) if name else None
                if found is not None and self.when_exists == "error":
                    raise self._exists(name)
                key = found or index.next_id()
                index.commit(temporary, key, name)
        except BaseException:
            _discard(temporary)
            raise
        return key

    def get(self, key: Any, include_metadata: bool = False) -> Any:
        """Return the object (or record) that was put under this id or name; for a list, a list of them.

        Args:
            key: An id or a name, or a list of these, which sets the order of the result.
            include_metadata: Return the record around each object, with its time.

        Raises:
            ObjectNotFoundError: one does not exist. Then nothing of a list is returned.
            CannotGetObjectError: one is damaged, or an encoder that it needs is not registered here.
        """
        if isinstance(key, list):
            return [self.get(each, include_metadata) for each in key]
        content = self._content(key)
        record = content.record
        if content.marks:
            record = record.replace(data=self._encoders.decode(record.data, content.marks, f"shm object {key!r}"))
        return record if include_metadata or content.is_record else record.data

    def register(self, encoder: Encoder) -> None:
        """Use an encoder for objects of its type from now on. Raises ConfigError if its name is taken by another."""
        self._encoders.register(encoder)

    def was_left(self, key: str) -> bool:
        """Return whether the object is older than the session of the present users. Raises as `get` does."""
        return self._get_index().was_left(self._find(key))

    def info(self, key: str) -> ObjectInfo:
        """Return the properties of an object beside its record: name, queue, time, size. Raises as `get` does."""
        found = self._find(key)
        try:
            return read_info(self._get_index().object_path(found), found)
        except FileNotFoundError as error:
            raise self._missing(key) from error

    def delete(self, key: str) -> None:
        """Delete the object of this id or name; copies returned by `get` stay valid. Raises ObjectNotFoundError."""
        index = self._get_index()
        with self._changing(index):
            found = self._find(key)
            index.remove(found, read_info(index.object_path(found), found).name)

    def replace(self, key: str, record: Any) -> None:
        """Replace this object by another record (or data), atomically; id, name and queue stay."""
        index = self._get_index()
        info = self.info(key)
        temporary = self._prepare(index, record, info.name, info.queue)
        try:
            with self._changing(index):
                if index.find(info.id) is None:
                    raise self._missing(key)
                index.commit(temporary, info.id, "")
        except BaseException:
            _discard(temporary)
            raise

    def keys(self, **coords: Any) -> Iterator[str]:
        """Yield the names (or ids, if unnamed) of all objects, or of those whose coordinates match.

        They come in the order in which the objects were put.
        """
        for key in self._get_index().ids():
            with contextlib.suppress(ObjectNotFoundError):  # deleted meanwhile
                if not coords or self._content(key).record.coords.matches(coords):
                    yield self.info(key).name or key

    def list_all(self, *, queue: str | None = None) -> list[ObjectInfo]:
        """Return the properties of all objects, or of those in one queue, in the order in which they were put."""
        found = []
        for key in self._get_index().ids():
            with contextlib.suppress(ObjectNotFoundError):  # deleted meanwhile
                found.append(self.info(key))
        return [i for i in found if queue is None or i.queue == queue]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._get_index().find(key) is not None

    def __len__(self) -> int:
        return len(self._get_index().ids())

    def subscribe(self, callback: Callable[[str], None], pattern: str = "*", **coords: Any) -> Callable[[], None]:
        """Call `callback` with the name (or id) of each object put from now on; return a function that ends it.

        It is called from a thread of the store, in the order in which processes put the objects. It misses none that
        still exists when its turn comes. Its errors are logged. `pattern` is matched with the name and the id.
        """
        return self._add_notifier(NewObjects(self._get_index(), callback, pattern, coords))

    def watch(self, callback: Callable[[str, str], None], pattern: str = "*") -> Callable[[], None]:
        """Call `callback` with each change from now on; return a function that ends it.

        Its arguments are the change ("put", "replaced" or "deleted") and the object's name (or id). It is called as
        by `subscribe`. Of several changes to one object before its turn comes, it receives the outcome only.
        """
        return self._add_notifier(Changes(self._get_index(), callback, pattern))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _get_index(self) -> ObjectIndex:
        if self._index is None:
            raise CannotConnectToStoreError(f"shm-objects {self.store_name!r}: is not open; call open() first")
        return self._index

    def _find(self, key: str) -> str:
        found = self._get_index().find(key)
        if found is None:
            raise self._missing(key)
        return found

    def _content(self, key: str) -> Content:
        try:
            return read_content(self._get_index().object_path(self._find(key)), f"shm object {key!r}")
        except FileNotFoundError as error:
            raise self._missing(key) from error

    def _missing(self, key: str) -> ObjectNotFoundError:
        return ObjectNotFoundError(f"shm-objects {self.store_name!r}: holds no object with id or name {key!r}")

    def _exists(self, name: str) -> RecordExistsError:
        message = (
            f"shm-objects {self.store_name!r}: holds an object of the name {name!r}; delete or replace it, "
            "or open the store with when_exists='replace'"
        )
        return RecordExistsError(message)

    def _add_notifier(self, answer: Callable[[], None]) -> Callable[[], None]:
        with usable(f"shm-objects {self.store_name!r}"):
            notifier = Notifier(self._get_index().path, SUBSCRIBER, answer)
        self._notifiers.append(notifier)

        def end() -> None:
            notifier.close()
            if notifier in self._notifiers:
                self._notifiers.remove(notifier)

        return end

    @contextlib.contextmanager
    def _changing(self, index: ObjectIndex) -> Iterator[None]:
        """Hold the lock for a change, and notify the subscribers of it."""
        try:
            with index.changing():
                yield
        except OSError as error:
            if isinstance(error, PenstockError) or error.errno not in _FULL:
                raise
            raise StoreError(f"shm-objects {self.store_name!r}: is full ({error.strerror}); delete objects") from error
        notify(index.path, index.subscribers())

    def _prepare(self, index: ObjectIndex, data: Any, name: str, queue: str) -> Path:
        """Write the object to a temporary file, or to disk with a temporary link to it, and return that."""
        now_ns, is_record = time.time_ns(), isinstance(data, Record)
        encoded, marks = self._encoders.encode(data.data if is_record else data)
        record = data.replace(data=encoded) if is_record else Record(encoded, time_ns=now_ns)
        try:
            pieces = to_pieces(Content(record, is_record, marks), name=name, queue=queue, time_ns=now_ns)
        except CodecError:
            if not self._encoders.add_installed():
                raise
            return self._prepare(index, data, name, queue)
        size = sum(len(p) for p in pieces)
        temporary = index.temporary_path()
        if self.max_bytes is None or self._fits(index, size, self.max_bytes):
            try:
                write_file(temporary, pieces)
                return temporary
            except FileNotFoundError as error:
                raise CannotConnectToStoreError(
                    f"shm-objects {self.store_name!r}: has been destroyed by another process; call reset()"
                ) from error
            except OSError as error:
                if error.errno not in _FULL:
                    raise
        if self.when_full == "spill" and self.spill_directory:
            return _spill(temporary, Path(self.spill_directory) / to_file_name(self.store_name), pieces)
        raise StoreError(
            f"shm-objects {self.store_name!r}: is full: an object of {size} bytes does not fit (max_bytes="
            f"{self.max_bytes}, {root()}); delete objects, or open the store with when_full='spill'"
        )

    def _fits(self, index: ObjectIndex, size: int, most: int) -> bool:
        with index.changing():
            return index.size_bytes() + size <= most or index.count_again() + size <= most


def _spill(temporary: Path, directory: Path, pieces: Iterable[bytes | memoryview]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory.resolve() / f"{temporary.name}.record"
    try:
        write_file(path, list(pieces))
    except OSError as error:
        raise StoreError(f"shm-objects: memory is full, and {path} cannot be written ({error.strerror})") from error
    temporary.symlink_to(path)
    return temporary


def _discard(temporary: Path) -> None:
    if temporary.is_symlink():
        Path(os.readlink(temporary)).unlink(missing_ok=True)
    temporary.unlink(missing_ok=True)
