"""Writing the CBOR of HEROs: the same bytes as `heros` writes for the same value."""

from __future__ import annotations

from typing import Any

import cbor2
import numpy

from penstock.errors import CodecError
from penstock_zenoh.hero.tagged import ARRAY, Tagged

_KINDS = "biufcSU"


def encode(value: Any) -> bytes:
    """Return a value as one CBOR item.

    Arrays are written in C order with the name of their dtype, numpy scalars as Python numbers, tuples as lists.

    Raises:
        CodecError: HEROs cannot encode the value, which the message names: a Python object, a date without a time
            zone, an array of objects or with fields.
    """
    try:
        return cbor2.dumps(value, default=_other)
    except CodecError:
        raise
    except Exception as error:  # cbor2 has its own exceptions, and a value may raise any
        if isinstance(error.__cause__, CodecError):
            raise error.__cause__ from None
        raise CodecError(f"{value!r:.80} cannot be sent as an event of a HERO: {error}") from error


def _other(encoder: Any, value: Any) -> Any:
    """Encode a value of a type that cbor2 does not support."""
    if isinstance(value, numpy.ndarray):
        if value.dtype.hasobject or value.dtype.kind not in _KINDS:
            raise CodecError(f"an array of dtype {value.dtype} cannot be sent as an event of a HERO")
        encoder.encode(cbor2.CBORTag(ARRAY, [list(value.shape), str(value.dtype).encode(), value.tobytes()]))
    elif isinstance(value, numpy.generic):
        encoder.encode(value.item())
    elif isinstance(value, Tagged):
        encoder.encode(cbor2.CBORTag(value.tag, value.value))
    elif hasattr(value, "items"):  # read-only mappings
        encoder.encode(dict(value.items()))
    elif isinstance(value, memoryview):
        encoder.encode(value.tobytes())
    else:
        raise CodecError(f"{value!r:.80} ({type(value).__name__}) cannot be sent as an event of a HERO")
