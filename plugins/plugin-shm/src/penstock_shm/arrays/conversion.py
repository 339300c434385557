"""Lossless conversion of values to the type of an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_INTEGERS, _NUMBERS, _TEXTS, _TIMES = frozenset("iu"), frozenset("biufc"), frozenset("US"), frozenset("mM")


def convert(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any] | None:
    """Return the values as an array of this type, or None if something would be lost.

    Floats may be rounded to shorter ones, but not to infinity; all other values must survive the conversion back.
    Numbers, texts and times are not converted to each other.
    """
    kinds = {values.dtype.kind, dtype.kind}
    if not values.size:
        return values.astype(dtype) if "O" not in kinds else None
    if kinds <= _INTEGERS:
        return values.astype(dtype) if _inside(values, dtype) else None
    if not (kinds <= _NUMBERS or kinds <= _TEXTS or kinds <= _TIMES or kinds == {"V"}):
        return None
    if values.dtype.kind == "c" and dtype.kind != "c":
        return None if values.imag.any() else convert(values.real, dtype)
    try:
        with np.errstate(all="ignore"):
            converted = values.astype(dtype, casting="unsafe")
            real = converted.real if dtype.kind == "c" and values.dtype.kind != "c" else converted
            back = real.astype(values.dtype, casting="unsafe")
    except (TypeError, ValueError, UnicodeError):  # text that is not ASCII into bytes, times of other kinds
        return None
    return converted if _is_same(values, converted, back) else None


def _is_same(values: npt.NDArray[Any], converted: npt.NDArray[Any], back: npt.NDArray[Any]) -> bool:
    kind, new_kind = values.dtype.kind, converted.dtype.kind
    if kind in "fc" and new_kind in "fc":
        return bool((np.isfinite(converted) | ~np.isfinite(values)).all())
    if kind == "f" and not np.isfinite(values).all():
        return False
    if new_kind == "f" and not np.isfinite(converted).all():
        return False
    if kind == "f" and new_kind in "iu" and not _inside(values, converted.dtype):
        return False  # the result of such a cast is undefined
    if kind in "mM":
        return bool(((back == values) | (np.isnat(values) & np.isnat(converted))).all())
    return bool(np.asarray(back == values).all())


def _inside(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> bool:
    """Return whether all numbers lie within the range of an integer dtype."""
    bounds = np.iinfo(dtype)
    return int(values.min()) >= bounds.min and int(values.max()) <= bounds.max
