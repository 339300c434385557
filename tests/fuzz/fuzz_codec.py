"""Feed the codec with bytes that a fuzzer makes: any bytes give a record or a CodecError. `nox -s fuzz` runs it.

Usage: python fuzz_codec.py CORPUS_DIRECTORY [libFuzzer options, such as -max_total_time=60]
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["penstock"]):
    from penstock.codec import decode, encode_bytes
    from penstock.errors import CodecError
    from penstock.record import Record


def one_input(data: bytes) -> None:
    """Decode; whatever is a record can be written again, and read again as the same bytes."""
    try:
        record = decode(data)
    except CodecError:
        return
    assert isinstance(record, Record)
    again = encode_bytes(record)
    assert encode_bytes(decode(again)) == again


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
