"""Write the records of one call separately: a failed record does not affect the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from penstock.errors import RecordExistsError, StoreError
from penstock.record import Record

_SHOWN = 3
Failed = list[tuple[Record, BaseException]]
"""Records that were not written, each with its error."""
Item = TypeVar("Item")


def write_each(records: Sequence[Record], write: Callable[[Record], None], *, where: str) -> None:
    """Call `write` for each record, then raise one error for all that failed.

    `write` raises a StoreError, or an OSError, which counts as retryable (a full disk, a mount that went away).

    Raises:
        RecordExistsError: all failed records failed because their name exists.
        StoreError: others; `failed` has each with its own error, and `retryable` is True if any of these is.
    """
    failed: Failed = []
    for record in records:
        with reported(record, failed, where=where):
            write(record)
    fail(failed, records, where=where)


def write_groups(
    records: Sequence[Record],
    prepare: Callable[[Record], tuple[str, Item]],
    write: Callable[[str, list[Item], Failed], None],
    *,
    where: str,
) -> None:
    """Call `write` for the records of each file together, then raise one error for all that failed.

    Args:
        records: The records.
        prepare: Returns the file of a record, and its item for `write`; or raises StoreError.
        write: Takes the items of one file, and adds failed records to a list, each with its error.
        where: The beginning of messages.

    Raises as `write_each`.
    """
    failed: Failed = []
    groups: dict[str, list[Item]] = {}
    for record in records:
        try:
            name, item = prepare(record)
        except StoreError as error:
            failed.append((record, error))
        else:
            groups.setdefault(name, []).append(item)
    for name, group in groups.items():
        write(name, group, failed)
    fail(failed, records, where=where)


class reported:  # noqa: N801 - used as a function
    """Add the error of a block to the failed records: a StoreError itself, an OSError as a StoreError."""

    __slots__ = ("_failed", "_record", "_where")

    def __init__(self, record: Record, failed: Failed, *, where: str) -> None:
        self._record, self._failed, self._where = record, failed, where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, OSError):
            return False
        self._failed.append((self._record, failure(self._record, error, where=self._where)))
        return True


def failure(record: Record, error: Exception, *, where: str) -> StoreError:
    """Return an error of one record as a StoreError: itself, if it is one; only OSErrors are retryable."""
    if isinstance(error, StoreError):
        return error
    message = f"{where}: record {name_of(record)} cannot be written: {error}"
    own = StoreError(message, retryable=isinstance(error, OSError))
    own.__cause__ = error
    return own


def fail(failed: Sequence[tuple[Record, BaseException]], records: Sequence[Record], *, where: str) -> None:
    """Raise one error for all records of a call that failed; return if none did. Raises as `write_each`."""
    if not failed:
        return
    order = {id(record): number for number, record in enumerate(records)}
    failed = sorted(failed, key=lambda each: order.get(id(each[0]), len(order)))
    message = str(failed[0][1])
    if len(records) > 1:
        shown = "; ".join(str(error).removeprefix(f"{where}: ") for _, error in failed[:_SHOWN])
        more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        message = f"{where}: {len(failed)} of {len(records)} records were not written: {shown}{more}"
    if all(isinstance(error, RecordExistsError) for _, error in failed):
        raise RecordExistsError(message, failed=failed)
    retryable = any(isinstance(error, StoreError) and error.retryable for _, error in failed)
    raise StoreError(message, failed=failed, retryable=retryable) from failed[0][1]


def name_of(record: Record) -> str:
    """Return the name of a record in messages: "channel/seq"."""
    return f"{record.channel or '(no channel)'}/{record.seq}"
