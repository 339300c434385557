"""PlasmaStoreInterface: the object store under the names that users of improv know."""

from __future__ import annotations

import queue
import secrets
import time
import warnings
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self

from penstock.arguments import checks_arguments
from penstock.codec.encoders import Encoder
from penstock.errors import (
    CannotConnectToStoreError,
    CannotGetObjectError,
    ObjectNotFoundError,
    RecordExistsError,
    StoreError,
)
from penstock_shm.objects.objects import ShmObjectStore

_RETRIES: Final = 20
_PAUSE_S: Final = 0.05


class PlasmaStoreInterface:
    """Share objects with other processes of this machine by name and id; no server has to be started.

    `name` identifies this process; all with the same `store_loc`, which is a text and not a file, share one store.
    Making an interface creates the store if it is missing; `connect_store` does not. An object stays until it is
    deleted, also when the process that put it has ended; an object left by earlier users of the store does not
    prevent a `put` under its name. Arrays returned are read-only views of shared memory.

    Attributes:
        client: The `ShmObjectStore` behind it, which can do more.

    Raises:
        CannotConnectToStoreError: the store cannot be opened.
    """

    @checks_arguments
    def __init__(
        self,
        name: str = "default",
        store_loc: str = "/tmp/store",
        *,
        max_bytes: int | None = None,
        spill_directory: str | None = None,
        encoders: Iterable[Encoder] = (),
    ) -> None:
        self.name = name
        self.store_loc = store_loc
        self._settings: dict[str, Any] = {
            "max_bytes": max_bytes,
            "spill_directory": spill_directory,
            "when_full": "spill" if spill_directory else "refuse",
            "encoders": tuple(encoders),
        }
        self._news: queue.SimpleQueue[str | None] | None = None
        self.client = self._open(store_loc, create=True)

    # -- the connection ----------------------------------------------------------------------------------------------

    def connect_store(self, store_loc: str) -> ShmObjectStore:
        """Connect to the store at `store_loc`, which must exist, and return the client; retries for one second.

        Raises:
            CannotConnectToStoreError: it does not exist; the connection stays as it was.
        """
        for attempt in range(_RETRIES):
            try:
                client = self._open(store_loc, create=False)
                break
            except CannotConnectToStoreError:
                if attempt == _RETRIES - 1:
                    raise
                time.sleep(_PAUSE_S)  # another process may be creating it
        self.release()
        self.client, self.store_loc = client, store_loc
        return client

    def reset(self) -> ShmObjectStore:
        """Connect again, as after an error, and return the client; subscriptions end."""
        self.release()
        self.client = self._open(self.store_loc, create=True)
        return self.client

    def release(self) -> None:
        """Close the connection. Objects stay, and those returned stay valid. Any number of times."""
        self.client.close()
        if self._news is not None:
            self._news.put(None)
            self._news = None

    def _open(self, store_loc: str, *, create: bool) -> ShmObjectStore:
        client = ShmObjectStore(store_loc, create=create, **self._settings)
        client.open()
        return client

    # -- objects -----------------------------------------------------------------------------------------------------

    def put(self, object: Any, object_name: str) -> str:
        """Store a snapshot of an object under a name, and return its id.

        Raises:
            RecordExistsError: the name is taken; use `replace`.
            StoreError: the store is full.
            CodecError: objects of this type need an encoder.
        """
        try:
            return self.client.put(object, object_name)
        except RecordExistsError:
            if not self.client.was_left(object_name):
                raise
            self.client.delete(object_name)
            return self.client.put(object, object_name)

    def get(self, object_name: str) -> Any:
        """Return the object of this name (or id). Raises CannotGetObjectError if it is missing or damaged."""
        try:
            return self.client.get(object_name)
        except ObjectNotFoundError as error:
            raise CannotGetObjectError(str(error)) from error

    def getID(self, obj_id: str, hdd_only: bool = False) -> Any:  # noqa: N802 - the name that improv's users write
        """Return the object of this id; with `hdd_only`, only if it is on disk because memory was full.

        Raises:
            ObjectNotFoundError: there is none.
            CannotGetObjectError: it is damaged.
        """
        info = self.client.info(obj_id)
        if info.id != obj_id or (hdd_only and not info.spilled):
            where = " on disk" if hdd_only else ""
            raise ObjectNotFoundError(f"shm-objects {self.store_loc!r}: holds no object with id {obj_id!r}{where}")
        return self.client.get(obj_id)

    def getList(self, ids: Iterable[str]) -> list[Any]:  # noqa: N802 - as above
        """Return the objects of these ids, in their order. Raises ObjectNotFoundError if one is missing."""
        return [self.getID(each) for each in ids]

    def get_all(self) -> list[Any]:
        """Return all objects of the store, in the order in which they were put."""
        found = []
        for info in self.client.list_all():
            try:
                found.append(self.client.get(info.id))
            except ObjectNotFoundError:  # deleted meanwhile
                continue
        return found

    def getStored(self) -> dict[str, str]:  # noqa: N802 - as above
        """Return the names of all named objects, with their ids."""
        return {info.name: info.id for info in self.client.list_all() if info.name}

    def delete(self, object_name: str) -> None:
        """Delete the object of this name (or id). Raises ObjectNotFoundError."""
        self.client.delete(object_name)

    def replace(self, object_name: str, object: Any) -> str:
        """Replace the object of this name (or id); return its id, which stays.

        Raises:
            ObjectNotFoundError: there is none.
        """
        self.client.replace(object_name, object)
        return self.client.info(object_name).id

    def random_ObjectID(self, number: int = 1) -> list[str]:  # noqa: N802 - as above
        """Return `number` unused ids."""
        return [secrets.token_hex(20) for _ in range(number)]

    def updateStoreInterfaced(self, object_name: str, object_id: str) -> None:  # noqa: N802 - as above
        """Do nothing, and warn: names are kept in the store itself, where every process sees them at once."""
        warnings.warn(
            f"updateStoreInterfaced({object_name!r}, …) does nothing: names are shared by all who use the store; "
            "remove the call",
            stacklevel=2,
        )

    # -- notifications -------------------------------------------------------------------------------------------------

    def subscribe(
        self, callback: Callable[[str], None] | None = None, pattern: str = "*", **coords: Any
    ) -> Callable[[], None]:
        """Subscribe to objects put from now on, by `notify` or by `callback`; return a function that ends it.

        `callback` is called with the name (or id) of each, in a thread of the store; see `ShmObjectStore.subscribe`.
        """
        if callback is not None:
            return self.client.subscribe(callback, pattern, **coords)
        news = self._news or queue.SimpleQueue()
        end = self.client.subscribe(news.put, pattern, **coords)
        self._news = news
        return end

    def notify(self, *, timeout_s: float | None = None) -> str | None:
        """Return the id of the next object that was put since `subscribe()`.

        Args:
            timeout_s: Seconds to wait for it; None waits for ever.

        Returns:
            The id; None if none arrived in time, or the connection was released or reset.

        Raises:
            StoreError: `subscribe()` was not called.
        """
        news = self._news
        if news is None:
            raise StoreError(f"shm-objects {self.store_loc!r}: call subscribe() before notify()", retryable=False)
        try:
            key = news.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if key is None:
            return None
        try:
            return self.client.info(key).id
        except ObjectNotFoundError:  # deleted meanwhile
            return key

    # -- Python's own ------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        if hasattr(self, "client"):
            self.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.name, self.store_loc, self._settings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.store_loc!r})"


def _again(cls: type[PlasmaStoreInterface], name: str, store_loc: str, settings: dict[str, Any]) -> Any:
    kept = {key: settings[key] for key in ("max_bytes", "spill_directory", "encoders")}
    return cls(name, store_loc, **kept)
