"""The hook for scalars and arrays of numpy. Imported when needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from cattrs import Converter

from penstock.config.expected import Hook, expected
from penstock.config.scalars import MAX_ARRAY_SIZE


def numpy_hook(kind: Any, _: Converter) -> Hook:
    """Return the hook for a scalar class of numpy, or for arrays; an array may state its dtype and shape."""

    def hook(value: Any, _: Any) -> Any:
        import numpy as np

        if isinstance(kind, type) and issubclass(kind, np.generic):
            bases = {np.bool_: (bool,), np.integer: (int,), np.floating: (int, float), np.str_: (str,)}
            takes = next((types for base, types in bases.items() if issubclass(kind, base)), ())
            plain = value.item() if isinstance(value, np.generic) else value
            if type(plain) in takes:
                return kind(plain)
            raise expected(kind.__name__, value)
        wanted = get_args(get_args(kind)[-1]) if get_args(kind) else ()
        dtype = wanted[0] if wanted and isinstance(wanted[0], type) else None
        if isinstance(value, Mapping) and value.keys() == {"dtype", "shape", "values"}:
            value = _of_form(value)
        if not isinstance(value, list | np.ndarray):
            raise expected("a list of numbers", value)
        try:
            array = np.array(value)
            made = array if dtype is None else array.astype(dtype, casting="same_kind" if array.size else "unsafe")
        except (ValueError, TypeError) as error:
            raise TypeError(f"expected a list of numbers: {error}") from error
        if made.dtype.hasobject or (array.dtype.kind == "U" and made.dtype.kind != "U"):
            raise expected("a list of numbers", value)
        return made

    return hook


def _of_form(form: Mapping[str, Any]) -> Any:
    """Make an array of `dtype`, `shape` and a flat list of `values`."""
    import numpy as np

    try:
        dtype, shape = np.dtype(form["dtype"]), tuple(form["shape"])
        array = np.array(form["values"], dtype)
        if dtype.kind not in "biufSU" or array.ndim != 1 or array.size > MAX_ARRAY_SIZE:
            raise ValueError("dtype must be of numbers or text")
        return array.reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise TypeError(f"expected dtype, shape and values of an array: {error}") from error
