"""The error of a call of `write` that failed for some of its records."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.errors import RecordExistsError, StoreError
from penstock.record import Record

_SHOWN = 3


def one_error(failed: Sequence[tuple[Record, BaseException]], count: int, *, where: str) -> StoreError:
    """Return one error for all failed records of a call; it is retryable if any of their errors is."""
    message = str(failed[0][1])
    if count > 1:
        shown = "; ".join(dict.fromkeys(str(error).removeprefix(f"{where}: ") for _, error in failed[:_SHOWN]))
        more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        message = f"{where}: {len(failed)} of {count} records were not written: {shown}{more}"
    if all(isinstance(error, RecordExistsError) for _, error in failed):
        return RecordExistsError(message, failed=failed)
    retryable = any(isinstance(error, StoreError) and error.retryable for _, error in failed)
    return StoreError(message, failed=failed, retryable=retryable)
