"""Write the records of one call, each for itself: one that is at fault does not keep the others from the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.errors import RecordExistsError, StoreError
from penstock.record import Record

_SHOWN = 3


def write_each(records: Sequence[Record], write: Callable[[Record], None], *, where: str) -> None:
    """Call `write` for each record, then raise one error for all that failed.

    `write` raises a StoreError, or an OSError, which counts as retryable (a full disk, a mount that went away).

    Raises:
        RecordExistsError: all that failed did because their name was taken.
        StoreError: others; `failed` has each with its own error, and `retryable` is True if any of these is.
    """
    failed: list[tuple[Record, BaseException]] = []
    for record in records:
        try:
            write(record)
        except StoreError as error:
            failed.append((record, error))
        except OSError as error:
            own = StoreError(f"{where}: record {name_of(record)} cannot be written: {error}")
            own.__cause__ = error
            failed.append((record, own))
    fail(failed, records, where=where)


def fail(failed: Sequence[tuple[Record, BaseException]], records: Sequence[Record], *, where: str) -> None:
    """Raise one error for all records of a call that failed; return if none did. Raises as `write_each`."""
    if not failed:
        return
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
    """Return what a message calls a record: "channel/seq"."""
    return f"{record.channel or '(no channel)'}/{record.seq}"
