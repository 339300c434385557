"""SharedMemoryArray: one numpy array in the memory of many processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from penstock.arguments import checks_arguments, checks_arguments_besides
from penstock_shm.arrays import array_file
from penstock_shm.arrays.array_errors import ArrayDataError, ArrayIndexError, ArrayNotConnectedError, ArrayTypeError
from penstock_shm.arrays.conversion import convert
from penstock_shm.arrays.lock import FileLock
from penstock_shm.directory import check_name, usable

Index = int | tuple[int] | tuple[int, int]
"""An index along the first axis: one element, `(start,)` to the end, or `(start, stop)` without `stop`."""


_UNLOCKED = contextlib.nullcontext()


class _Held:
    """A context manager that holds a lock; faster than a generator, which would take as long as the lock itself."""

    __slots__ = ("_lock", "_timeout_s")

    @checks_arguments
    def __init__(self, lock: FileLock, timeout_s: float | None) -> None:
        self._lock, self._timeout_s = lock, timeout_s

    def __enter__(self) -> None:
        self._lock.acquire(self._timeout_s)

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class SharedMemoryArray:
    """An array of fixed shape and type that processes of one machine (and user) read and write together.

    `create_array` creates it; elsewhere `SharedMemoryArray(name).connect()` opens it by name, as does an instance
    received by pickle (`spawn`) or fork. It exists until `destroy`, even after its creator has ended.

    Reads return copies made under a lock; writes copy under the same lock. The lock is reentrant, works among threads
    and processes, and is released when its holder dies, even by `kill -9`. The last write may then be incomplete:
    `interrupted` counts such deaths. While a living holder keeps the lock, others wait for `lock_timeout_s`, then raise
    LockTimeoutError.

    Views (`array`) stay valid after `disconnect` and `destroy`: the memory is freed with the last reference.
    """

    @checks_arguments
    def __init__(self, name: str, *, lock_timeout_s: float | None = 30.0) -> None:
        """Refer to an array by name without opening it; see `connect`.

        Args:
            name: Any text of 1 to 4096 bytes.
            lock_timeout_s: Seconds to wait for the lock; 0 tries once, None waits for ever.
        """
        self._name = check_name(name, "shared array")
        self._lock_timeout_s = lock_timeout_s
        self._file: array_file.ArrayFile | None = None
        self._lock: FileLock | None = None
        self._shape: tuple[int, ...] | None = None
        self._datatype: np.dtype[Any] | None = None

    @classmethod
    @checks_arguments_besides("prototype")
    def create_array(
        cls, name: str, prototype: npt.NDArray[Any], exist_ok: bool = False, *, lock_timeout_s: float | None = 30.0
    ) -> Self:
        """Create a shared array with the shape, type and content of `prototype`, and connect to it.

        An existing array of this name without connected processes is replaced. With `exist_ok`, an array in use is
        replaced as well; its users keep the old array until they reconnect.

        Raises:
            ArrayExistsError: an array of this name is in use, and `exist_ok` is False.
            ArrayTypeError: `prototype` is not an array, or its type refers to Python objects.
            StoreError: /dev/shm is full.
        """
        if not isinstance(prototype, np.ndarray):
            raise ArrayTypeError(
                f"shared array {name!r}: prototype is a {type(prototype).__name__}; pass a numpy array"
            )
        array_file.create(check_name(name, "shared array"), prototype, replace=exist_ok)
        made = cls(name, lock_timeout_s=lock_timeout_s)
        made.connect()
        return made

    # -- life --------------------------------------------------------------------------------------------------------

    def connect(self) -> Self:
        """Open the array of this name, unless it is connected already. Return the array itself.

        Raises:
            ArrayNotFoundError: no array of this name exists.
            CannotConnectToStoreError: the directory cannot be used, or this process has too many open files.
        """
        if self._file is None:
            with usable(self._title):
                found = array_file.attach(self._name)
                try:
                    self._lock = FileLock(found.descriptor, found.state, name=self._title)
                except BaseException:
                    os.close(found.descriptor)
                    raise
            self._file = found
            self._shape, self._datatype = found.elements.shape, found.elements.dtype
        return self

    def disconnect(self) -> None:
        """Disconnect; the array and its content remain for others. May be called repeatedly. Views stay valid."""
        file, self._file = self._file, None
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()
        if file is not None:
            os.close(file.descriptor)

    def destroy(self) -> None:
        """Disconnect and remove the array's name; its memory is freed with its last user. May be called repeatedly.

        A newer array of the same name is not removed if this one was connected.
        """
        array_file.remove(self._name, None if self._file is None else self._file.descriptor)
        self.disconnect()

    @property
    def is_connected(self) -> bool:
        """Whether the array is connected, and can be read and written."""
        return self._file is not None

    @property
    def name(self) -> str:
        """The name by which other processes connect to it."""
        return self._name

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape; known after the first `connect`."""
        if self._shape is None:
            raise self._not_connected()
        return self._shape

    @property
    def datatype(self) -> np.dtype[Any]:
        """The dtype; known after the first `connect`."""
        if self._datatype is None:
            raise self._not_connected()
        return self._datatype

    @property
    def interrupted(self) -> int:
        """Number of processes that died holding the lock, since the array was created."""
        if self._lock is None:
            raise self._not_connected()
        return self._lock.interrupted()

    # -- content -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self, timeout_s: float | None = None) -> Iterator[Self]:
        """Hold the lock for several operations. `timeout_s` overrides `lock_timeout_s`.

        Raises:
            LockTimeoutError: a living process or another thread holds the lock.
        """
        lock = self._lock
        if lock is None:
            raise self._not_connected()
        lock.acquire(self._lock_timeout_s if timeout_s is None else timeout_s)
        try:
            yield self
        finally:
            lock.release()

    @contextlib.contextmanager
    def array(self, with_lock: bool = True) -> Iterator[npt.NDArray[Any]]:
        """Yield a view of the shared elements, to be changed in place; holds the lock unless `with_lock` is False."""
        with self._held(with_lock=with_lock):
            yield self._elements()[...]

    def read_data(self, index: Index = (0,), convert_output: bool = False, with_lock: bool = True) -> Any:
        """Return a copy of a part: an element for an int, an array for a tuple, even one with a single element.

        Args:
            index: Along the first axis; negative ones count from the end. For an array without axes, use `(0,)`.
            convert_output: Return Python numbers and lists instead of numpy's.
            with_lock: False reads without waiting, and may see an incomplete write.

        Raises:
            ArrayIndexError: the index is out of range.
            ArrayNotConnectedError: the array is not connected.
            LockTimeoutError: the lock was not released in time.
        """
        elements = self._elements()
        where = self._where(index)
        with self._held(with_lock=with_lock):
            found = elements[where].copy()
        if convert_output:
            return found.tolist()
        return found

    def write_data(self, index: Index, data: Any, with_lock: bool = True) -> None:
        """Copy `data` into a part of the array: an array of the part's shape, or one number for all elements.

        The data are converted to the array's dtype if that is lossless: 2.0 fits integers, 1.5 does not; text that is
        too long is refused. The only accepted loss is the rounding of floats to shorter ones.

        Raises:
            ArrayDataError: the shape differs, or the dtype cannot hold the values (300 for uint8, 1.5 for int).
            ArrayIndexError: the index is out of range.
            ArrayNotConnectedError: the array is not connected.
            LockTimeoutError: the lock was not released in time.
        """
        self._put(self._where(index), data, with_lock=with_lock)

    def add(self, index: Any, value: Any) -> Any:
        """Add `value` to the elements at any numpy index, atomically among all processes; return a copy of the sums."""
        with self.locked():
            elements = self._elements()
            self._put(index, elements[index] + value, with_lock=False)
            return elements[index].copy()

    def __getitem__(self, index: Any) -> Any:
        with self.locked():
            try:
                return self._elements()[index].copy()
            except IndexError as error:
                raise ArrayIndexError(f"{self._title}: {error}") from error

    def __setitem__(self, index: Any, data: Any) -> None:
        self._put(index, data, with_lock=True)

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    # -- Python's own ------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self.disconnect()

    def __reduce__(self) -> tuple[Any, ...]:
        return _named, (type(self), self._name, self._lock_timeout_s, self._shape, self._datatype)

    def __repr__(self) -> str:
        state = "connected" if self.is_connected else "not connected"
        return f"{type(self).__name__}({self._name!r}, shape={self._shape}, datatype={self._datatype}, {state})"

    # -- inside ------------------------------------------------------------------------------------------------------

    def _elements(self) -> npt.NDArray[Any]:
        if self._file is None:
            raise self._not_connected()
        return self._file.elements

    def _held(self, *, with_lock: bool) -> _Held | contextlib.nullcontext[None]:
        if not with_lock:
            return _UNLOCKED
        if self._lock is None:
            raise self._not_connected()
        return _Held(self._lock, self._lock_timeout_s)

    @property
    def _title(self) -> str:
        return f"shared array {self._name!r}"

    def _not_connected(self) -> ArrayNotConnectedError:
        return ArrayNotConnectedError(f"{self._title}: is not connected; call connect() first")

    def _where(self, index: Index) -> Any:
        """Return `index` in numpy's form, checked against the first axis."""
        shape = self.shape
        length = shape[0] if shape else 1
        parts = index if isinstance(index, tuple) else (index,)
        if not 1 <= len(parts) <= 2 or any(isinstance(p, bool) or not hasattr(p, "__index__") for p in parts):
            raise ArrayIndexError(f"{self._title}: index {index!r} is neither int, (start,) nor (start, stop)")
        numbers = [int(p) + length if int(p) < 0 else int(p) for p in parts]
        start, stop = numbers[0], numbers[1] if len(numbers) == 2 else length
        inside = 0 <= start < length if not isinstance(index, tuple) else 0 <= start <= stop <= length
        if not inside:
            raise ArrayIndexError(f"{self._title}: index {index!r} is outside of 0 to {length}")
        if not shape:
            return ...
        return slice(start, stop) if isinstance(index, tuple) else start

    def _put(self, where: Any, data: Any, *, with_lock: bool) -> None:
        elements = self._elements()
        try:
            values = self._fitting(data, elements.dtype)
            with self._held(with_lock=with_lock):
                elements[where] = values
        except IndexError as error:
            raise ArrayIndexError(f"{self._title}: {error}") from error
        except (ValueError, TypeError, OverflowError) as error:
            if isinstance(error, ArrayDataError):
                raise
            raise ArrayDataError(f"{self._title} ({elements.dtype}, {elements.shape}): {error}") from error

    def _fitting(self, data: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return the data as an array of this dtype. Raises ArrayDataError if it cannot hold the values."""
        values = np.asarray(data)
        if values.dtype == dtype:
            return values
        fitting = convert(values, dtype)
        if fitting is None:
            raise ArrayDataError(
                f"{self._title}: {_shown(values)} cannot be converted to {dtype} without loss; convert the data "
                "first, or create the array with another dtype"
            )
        return fitting


def _shown(values: npt.NDArray[Any]) -> str:
    if values.size == 1:
        return f"{values.reshape(-1)[0]!r:.80}"
    if values.dtype.kind in "iuf" and values.size:
        return f"values from {values.min()} to {values.max()} ({values.dtype})"
    return f"data of type {values.dtype}"


def _named(
    cls: type[SharedMemoryArray],
    name: str,
    lock_timeout_s: float | None,
    shape: tuple[int, ...] | None,
    datatype: np.dtype[Any] | None,
) -> SharedMemoryArray:
    made = cls(name, lock_timeout_s=lock_timeout_s)
    made._shape, made._datatype = shape, datatype
    return made
