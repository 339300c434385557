"""CBOR of HEROs: the same bytes as the real thing, and nothing hostile gets through."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import json
import subprocess
import tracemalloc

import cbor2
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import CodecError
from penstock_zenoh.hero.cbor import DEPTH, decode
from penstock_zenoh.hero.cbor_out import encode
from penstock_zenoh.hero.pair_form import PairForm
from penstock_zenoh.hero.tagged import Tagged

UTC = datetime.UTC
VALUES = """{
    "frame": (numpy.array([[0, 1, 2], [3, 4, 5]], numpy.uint16), {"frame": 1}),
    "started": {"frames": 3, "rate": 5.0},
    "big-endian": numpy.arange(4, dtype=">u2"),
    "fortran": numpy.asfortranarray(numpy.arange(6).reshape(2, 3)),
    "0-d": numpy.array(3.5),
    "empty": numpy.zeros((0, 3), numpy.float32),
    "text": numpy.array(["ab", "c"]),
    "bytes": numpy.array([b"ab", b"c"]),
    "bool": numpy.array([True]),
    "complex": numpy.array([1j], numpy.complex64),
    "half": numpy.array([1.5], numpy.float16),
    "int64": numpy.int64(3),
    "set": {7},
    "time": datetime.datetime(2020, 1, 1, tzinfo=UTC),
    "date": datetime.date(2020, 1, 1),
    "decimal": decimal.Decimal("1.5"),
    "fraction": fractions.Fraction(1, 3),
    "uuid": uuid.UUID(int=5),
    "number": 1 + 2j,
    "integers": [0, 23, 24, 255, 256, 65535, 65536, 2**32, 2**63, 2**64 - 1, -(2**64), 2**70, -(2**70)],
    "floats": [0.1, float("nan"), float("inf"), -float("inf")],
    "plain": (None, True, b"x", (1, (2,)), "é", bytearray(b"xy")),
}"""
REAL = f"""
import datetime, decimal, fractions, json, numpy, uuid
from heros.serdes import serialize
UTC = datetime.timezone.utc
print(json.dumps({{name: serialize(value).hex() for name, value in {VALUES}.items()}}))
"""


def values() -> dict:
    names = ("datetime", "decimal", "fractions", "numpy", "uuid")
    return eval(VALUES, {"UTC": UTC} | {name: importlib.import_module(name) for name in names})


def same(one, other) -> bool:
    if isinstance(one, numpy.ndarray):
        return isinstance(other, numpy.ndarray) and one.dtype == other.dtype and numpy.array_equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other or (one != one and other != other)


def test_the_bytes_are_those_of_heros(heros_python):
    """Each kind of value is encoded byte for byte as by the real heros, and read back as the same value."""
    done = subprocess.run([heros_python, "-c", REAL], capture_output=True, text=True, check=True, timeout=60)
    theirs = json.loads(done.stdout)
    ours = {name: encode(value).hex() for name, value in values().items()}
    assert ours == theirs
    for name, value in values().items():
        assert same(value, decode(bytes.fromhex(theirs[name]))), name


def test_an_array_is_a_view_that_nobody_can_write_to():
    """A frame is not copied again on its way in, and is read-only."""
    array, _ = decode(encode((numpy.arange(1000), {})))
    assert not array.flags.writeable
    assert not array.flags.owndata


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
        max_leaves=30,
    )
)
def test_plain_values_come_back(value):
    """Values survive encoding and decoding, and the bytes equal those of cbor2."""
    payload = encode(value)
    assert payload == cbor2.dumps(value)
    assert same(value, decode(payload))


@given(st.binary(max_size=60))
def test_garbage_is_an_error_or_a_value(payload):
    """Any bytes are a value or a CodecError, never another error."""
    with contextlib.suppress(CodecError):
        decode(payload)


@given(st.data())
def test_what_is_cut_or_changed_is_an_error_or_a_value(data):
    """A frame whose bytes are cut or changed anywhere never raises anything but CodecError."""
    payload = bytearray(encode((numpy.arange(4), {"frame": 3, "at": datetime.datetime(2020, 1, 1, tzinfo=UTC)})))
    cut = data.draw(st.integers(0, len(payload)))
    payload = payload[:cut] + data.draw(st.binary(max_size=4)) + payload[cut + data.draw(st.integers(0, 4)) :]
    with contextlib.suppress(CodecError):
        decode(bytes(payload))


def array_of(shape, dtype, data) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(4242, [shape, dtype, data]))


HOSTILE = {
    "cut": b"\x82\x01",
    "followed by something": b"\x01\x01",
    "empty": b"",
    "deep": b"\x81" * (DEPTH + 1) + b"\x01",
    "deep tags": b"\xc1" * 100_000 + b"\x01",
    "a list of 2**60": b"\x9b" + (2**60).to_bytes(8, "big"),
    "a map of 2**60": b"\xbb" + (2**60).to_bytes(8, "big"),
    "bytes of 2**60": b"\x5b" + (2**60).to_bytes(8, "big"),
    "text of 2**60": b"\x7b" + (2**60).to_bytes(8, "big"),
    "endless list": b"\x9f\x01",
    "no UTF-8": b"\x61\xff",
    "objects": array_of([1], b"object", b"12345678"),
    "objects, short": array_of([1], b"O", b"12345678"),
    "fields": array_of([1], b"[('a', '<i4')]", b"1234"),
    "text that runs": array_of([1], b"__import__('os')", b"1234"),
    "too large": array_of([2**40, 2**40], b"uint8", b""),
    "too small": array_of([3], b"uint16", b"12"),
    "negative": array_of([-1], b"uint8", b"1"),
    "nothing times much": array_of([0, 2**62], b"uint64", b""),
    "flag as size": array_of([True], b"uint8", b"1"),
    "many dimensions": array_of([1] * 1000, b"uint8", b"1"),
    "zero bytes each": array_of([2**40], b"S0", b""),
    "no array": cbor2.dumps(cbor2.CBORTag(4242, "x")),
    "decimal of 10**9 digits": cbor2.dumps(cbor2.CBORTag(4, [10**9, 1])),
    "fraction by nothing": cbor2.dumps(cbor2.CBORTag(30, [1, 0])),
    "fraction of lists": cbor2.dumps(cbor2.CBORTag(30, [[1], 2])),
    "a date in words": cbor2.dumps(cbor2.CBORTag(0, "tomorrow")),
    "a time out of reach": cbor2.dumps(cbor2.CBORTag(1, 1e300)),
    "a key that is a list of dicts": b"\xa1\x81\xa0\x01",
    "one key twice": b"\xa2\x01\x01\x01\x02",
    "long bignum": b"\xc2" + cbor2.dumps(b"\xff" * 5000),
    "undefined simple": b"\xf8\xff",
}


def test_an_array_after_one_with_the_same_head():
    """The head of an array is read once for all frames of a camera; each frame is checked all the same."""
    first, second = (numpy.full((4, 3), number, "uint16") for number in (7, 8))
    payload = encode([first, {"n": 1}])
    assert numpy.array_equal(decode(payload)[0], first)
    again = decode(encode([second, {"n": 2}]))
    assert numpy.array_equal(again[0], second)
    assert (again[0].dtype, again[1], again[0].flags.writeable) == (second.dtype, {"n": 2}, False)
    for cut in range(1, len(payload)):
        with pytest.raises(CodecError):
            decode(payload[:cut])
    with pytest.raises(CodecError, match="follow"):
        decode(payload + b"\0")
    for other in (first.astype(">u2"), first.reshape(3, 4), first[:2], first.astype("float16"), numpy.array(3.5)):
        assert numpy.array_equal(decode(encode(other)), other)
        assert decode(encode(other)).dtype == other.dtype
    nested = DEPTH - 4  # the numbers of a shape are four levels down
    for _ in range(2):
        assert decode(b"\x81" * nested + encode(first))
        with pytest.raises(CodecError, match="deeper"):
            decode(b"\x81" * (nested + 1) + encode(first))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_cbor_is_refused_and_allocates_nothing(name):
    """False lengths, depths or dtypes are a CodecError, and allocate little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            decode(HOSTILE[name])
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_unknown_tags_stay_closed():
    """An unknown tag, a reference or a callback is kept undecoded; nothing is resolved."""
    assert decode(cbor2.dumps(cbor2.CBORTag(9000, ["heros", "cam"]))) == Tagged(9000, ["heros", "cam"])
    assert decode(cbor2.dumps({"x": cbor2.CBORTag(77777, [1])})) == {"x": Tagged(77777, [1])}
    assert decode(cbor2.dumps(cbor2.CBORTag(35, "(a+)+$"))) == Tagged(35, "(a+)+$")
    assert encode(Tagged(77777, [1])) == cbor2.dumps(cbor2.CBORTag(77777, [1]))


@pytest.mark.parametrize(
    "value", [object(), numpy.array([object()]), numpy.zeros(1, [("a", "i4")]), datetime.datetime(2020, 1, 1)]
)
def test_what_has_no_form_is_refused(value):
    """A Python object, an array of objects or with fields, a date without a zone: a CodecError that shows it."""
    with pytest.raises(CodecError, match="cannot be sent as an event of a HERO"):
        encode((value, {}))


ARRAYS = st.sampled_from(
    [numpy.arange(6, dtype=numpy.uint16).reshape(2, 3), numpy.arange(4, dtype=">u2"), numpy.array(3.5), numpy.zeros(0)]
)
SCALARS = st.one_of(
    st.integers(-(2**64), 2**64), st.floats(), st.text(max_size=30), st.booleans(), st.none(), st.binary(max_size=3)
)
METADATA = st.dictionaries(st.text(max_size=3), SCALARS, max_size=4)


def is_same_event(one, other) -> bool:
    """Return whether two events (array, metadata) have the same bytes, types and values."""
    return repr([*one]) == repr(other) and one[0].dtype == other[0].dtype and one[0].tobytes() == other[0].tobytes()


@given(ARRAYS, METADATA, st.data())
def test_an_event_of_a_known_form_is_read_as_any_other(array, metadata, data):
    """What the form of an event reads is what `decode` reads; it gives up where `decode` refuses."""
    first = encode((array, metadata))
    form = PairForm.of(first, decode(first))
    if form is None:
        assert not array.size or not metadata
        return
    again = encode((array, {name: data.draw(SCALARS) for name in metadata}))
    payload = data.draw(
        st.one_of(
            st.just(again),
            st.integers(0, len(again)).map(lambda end: again[:end]),
            st.binary(min_size=1, max_size=3).map(lambda more: again + more),
            st.tuples(st.integers(0, len(again) - 1), st.integers(0, 255)).map(
                lambda change: again[: change[0]] + bytes(change[1:]) + again[change[0] + 1 :]
            ),
        )
    )
    read = form.read(payload)
    if read is not None:
        assert is_same_event(read, decode(payload))
        assert not read[0].flags.writeable


@pytest.mark.parametrize("value", [0, 23, 24, 255, 256, 65536, 2**32, 2**64 - 1, 0.5, "", "µm", True, False, None])
def test_usual_metadata_are_read_by_the_form(value):
    """Counts, times, numbers and short texts need no other reader."""
    first = encode((numpy.zeros((2, 3), numpy.uint16), {"frame": 1, "value": 0}))
    form = PairForm.of(first, decode(first))
    array, metadata = form.read(encode((numpy.ones((2, 3), numpy.uint16), {"frame": 2, "value": value})))
    assert array.tolist() == [[1] * 3] * 2
    assert metadata == {"frame": 2, "value": value}
    assert form.read(encode((numpy.ones((3, 2), numpy.uint16), {"frame": 2, "value": 0}))) is None
    assert form.read(encode((numpy.ones((2, 3), numpy.uint16), {"value": 2, "frame": 0}))) is None
