"""CBOR as HEROs speak it, written: the same bytes that `heros` writes for the same value."""

from __future__ import annotations

from typing import Any

import cbor2
import numpy

from penstock.errors import CodecError
from penstock_zenoh.hero.tagged import ARRAY, Tagged

_KINDS = "biufcSU"


def encode(value: Any) -> bytes:
    """Return a value as one CBOR item.

    Arrays go in C order as they lie in memory, with the name of their dtype; scalars of numpy as Python's; a tuple as
    a list. Raises CodecError, which names the value, for what a HERO has no form for: Python objects, dates without a
    time zone, arrays of objects or with fields.
    """
    try:
        return cbor2.dumps(value, default=_other)
    except CodecError:
        raise
    except Exception as error:  # cbor2 has errors of its own, and a value may raise anything
        if isinstance(error.__cause__, CodecError):
            raise error.__cause__ from None
        raise CodecError(f"{value!r:.80} cannot be sent as an event of a HERO: {error}") from error


def _other(encoder: Any, value: Any) -> Any:
    """Encode what cbor2 does not know."""
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
