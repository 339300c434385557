"""The codec: a record is read back equal, and any bytes yield a record or a CodecError."""

import contextlib
import decimal
import enum
import math
import pathlib
import struct
import subprocess
import sys
import threading
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penstock.codec import decode, encode, encode_bytes, encode_into, encoded_size
from penstock.codec import frame as frames
from penstock.coords import DataCoordinates
from penstock.errors import CodecError
from penstock.record import Record
from penstock.testing import strategies

GOLDEN = pathlib.Path(__file__).parent / "golden"
FIELDS = np.dtype(
    {"names": ["a", "b"], "formats": ["<f4", (">i2", (2,))], "offsets": [0, 8], "itemsize": 16, "titles": ["A", None]}
)
ARRAYS = {
    "c": np.arange(12, dtype=np.uint16).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(20, dtype=np.int32)[::3],
    "reversed": np.arange(6).reshape(2, 3)[::-1, ::-1],
    "big_endian": np.arange(3, dtype=">i4"),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "zero_d": np.array(5.5),
    "empty": np.zeros((0, 3), np.float32),
    "times": np.array(["2026-01-01", "NaT"], "datetime64[ns]"),
    "spans": np.array([1, 2], "timedelta64[25us]"),
    "text": np.array(["ab", "ü"]),
    "bytes": np.array([b"ab", b"c"]),
    "void": np.zeros(2, "V3"),
    "fields": np.zeros(3, FIELDS),
    "nested": np.ones(2, [("p", [("x", "<f8"), ("y", "<f8")]), ("n", "<u1")]),
    "half": np.ones(3, np.float16),
    "no_size": np.zeros(3, np.dtype([])),
}


class Mode(enum.Enum):
    FAST = "fast"


VALUES = {
    "none": None,
    "bools": [True, False],
    "ints": [0, -1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**500, -(10**500)],
    "floats": [0.0, -0.0, 1e308, math.inf, -math.inf],
    "complex": 1.5 - 2j,
    "text": ["", "ü\0", "\ud800", "😀"],
    "bytes": [b"", b"\0\xff", b"x" * 10_000],
    "containers": [[], (), {}, set(), frozenset(), (1, [2, (3,)]), {1, "a", (2,)}, frozenset({1.5}), [(), []]],
    "keys": {1: "a", (1, 2): "b", None: "c", "s": "d", b"k": "e"},
    "surrogate": {"\ud800": 1},
    "times": [datetime(2026, 1, 2, 3, 4, 5, 6), datetime(2026, 1, 2, tzinfo=UTC), date(1, 1, 1), time(1, 2, 3, 4)],
    "zone": datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-3, seconds=1))),
    "spans": [timedelta(days=-5, microseconds=3), timedelta.max, timedelta.min],
    "path": pathlib.Path("a/ü"),
    "uuid": uuid.UUID(int=7),
    "decimals": [decimal.Decimal("1.50"), decimal.Decimal("-Infinity")],
    "coords": DataCoordinates(z=1, c="a"),
    "first": [decimal.Decimal(1), 2],
    "deep": {"a": {"b": [{"c": (1,)}]}},
}


def same(one, other):
    """Equal in value and type, all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return one == other or (one != one and other != other)


def there_and_back(**fields):
    return decode(encode_bytes(Record(fields.pop("data", None), **fields)))


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back(name):
    """An array of any dtype but object, shape and order is read back equal, as data and inside metadata."""
    array = ARRAYS[name]
    record = there_and_back(data=array, metadata={"in": [{"array": array}]})
    assert same(record.data, array)
    assert same(record.metadata["in"][0]["array"], array)


def test_order_is_kept():
    """A Fortran array is read back as one, without having been copied into another order."""
    array = there_and_back(data=ARRAYS["fortran"]).data
    assert array.flags.f_contiguous
    assert not array.flags.c_contiguous


@pytest.mark.parametrize("name", VALUES)
def test_values_come_back(name):
    """A value of every kind is read back with its type, as data and inside metadata."""
    record = there_and_back(data=VALUES[name], metadata={"deep": {"value": VALUES[name]}, "beside": VALUES[name]})
    assert same(record.data, VALUES[name])
    assert same(record.metadata["deep"]["value"], VALUES[name])
    assert same(record.metadata["beside"], VALUES[name])


def test_what_comes_back_different():
    """Enums are read back as values, memoryviews as bytes, subclasses as their base types: as documented."""

    class Text(str):
        pass

    data = [Mode.FAST, bytearray(b"a"), memoryview(b"ab")[::-1], Text("t"), np.ma.array([1]).data.view(np.recarray)]
    back = there_and_back(data=data).data
    assert back[:4] == ["fast", b"a", b"ba", "t"]
    assert type(back[3]) is str
    assert type(back[4]) is np.ndarray


@given(hnp.from_dtype(np.dtype("f8")) | st.sampled_from([np.int8(-3), np.bool_(True), np.str_("ü"), np.float16(1)]))
def test_numpy_scalars_come_back(value):
    """A NumPy scalar is read back as the same NumPy scalar."""
    assert same(there_and_back(metadata={"value": value}).metadata["value"], value)


def test_the_whole_record_comes_back():
    """Every field is read back; the parent is too, but without its own parent."""
    grandparent = Record(b"g")
    parent = Record(b"packet" * 1000, channel="p", seq=1, coords=DataCoordinates(z=2), parent=grandparent)
    record = Record(
        np.ones(3),
        channel="ü",
        seq=-5,
        time_ns=2**62,
        coords=DataCoordinates(time=2**70, c="\ud800"),
        metadata={"a": 1},
        parent=parent,
        discontinuity=True,
    )
    back = decode(encode_bytes(record))
    for name in ("channel", "seq", "time_ns", "coords", "metadata", "discontinuity"):
        assert getattr(back, name) == getattr(record, name)
    assert (back.parent.data, back.parent.coords, back.parent.parent) == (parent.data, parent.coords, None)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
@given(st.data())
def test_any_record_comes_back(data):
    """A record of any plain values and arrays is read back equal, and encoded_size is right."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes()
    keys = st.text() | st.integers() | st.tuples(st.integers())
    arrays = hnp.arrays(hnp.scalar_dtypes() | hnp.array_dtypes(), hnp.array_shapes(min_dims=0, min_side=0, max_side=3))
    values = st.recursive(
        scalars | arrays,
        lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.tuples(inner, inner),
        max_leaves=8,
    )
    record = Record(data.draw(values), metadata=data.draw(st.dictionaries(st.text(), values, max_size=3)))
    encoded = encode_bytes(record)
    back = decode(encoded)
    assert same(back.data, record.data)
    assert same(back.metadata, record.metadata)
    assert len(encoded) == encoded_size(record)


def test_buffers_are_aligned_and_not_copied():
    """Arrays and bytes are views, each at a multiple of 64 bytes from the start."""
    array, packet = np.arange(1000, dtype=np.uint8), b"x" * 77
    parts = encode(Record(array, metadata={"a": np.ones(3), "b": 1}, parent=Record(packet)))
    assert any(isinstance(part, memoryview) and np.shares_memory(np.asarray(part), array) for part in parts)
    assert any(part is packet for part in parts)
    start, starts = 0, []
    for index, part in enumerate(parts):
        if index and index % 2 == 0:
            starts.append(start % 64)
        start += len(part)
    assert starts == [0, 0, 0]


@given(strategies.records(data=strategies.arrays()))
@settings(max_examples=300, deadline=None)
def test_the_quick_way_of_plain_arrays_writes_the_same(record):
    """The fast path for plain arrays, and joining, write the same bytes as the general path."""
    try:
        general = b"".join(frames._frame(record)[0])
    except CodecError:
        with pytest.raises(CodecError):
            encode(record)
        return
    assert b"".join(encode(record)) == encode_bytes(record) == general
    assert encode(record, join_below=len(general) + 1) == [general]
    assert encoded_size(record) == len(general)


def test_the_quick_way_takes_plain_arrays_only():
    """Anything but an array of numbers with plain metadata uses the general path, and is read back equal."""
    plain = np.arange(6).reshape(2, 3)
    quick = {"plain": plain, "of one number": np.array(7), "read-only": np.broadcast_to(plain, (2, 3)).copy()}
    general = {"turned": plain.T, "big-endian": plain.astype(">i8"), "empty": plain[:0], "half": plain.astype("f2")}
    general |= {"strided": plain[:, ::2], "structured": np.zeros(2, [("a", "i4")]), "times": plain.astype("M8[s]")}
    for name, array in (quick | general).items():
        record = Record(array, channel="a", seq=2**40, coords=DataCoordinates(t=1), metadata={"gain": 2.5})
        assert (frames._array_head(record) is not None) == (name in quick), name
        assert b"".join(encode(record)) == b"".join(frames._frame(record)[0])
        np.testing.assert_array_equal(decode(encode_bytes(record)).data, array)
    assert frames._array_head(Record(plain, parent=Record(b""))) is None
    assert frames._array_head(Record(plain, seq=2**70)) is None
    assert frames._array_head(Record(plain, metadata={"list": [1]})) is None


def test_decoding_gives_views():
    """An array is a view of the buffer, and read-only if and only if the buffer is."""
    encoded = encode_bytes(Record(np.zeros(100, np.uint8)))
    assert not decode(encoded).data.flags.writeable
    buffer = bytearray(encoded)
    array = decode(buffer).data
    array[0] = 9
    assert buffer[-100] == 9


def test_encode_into_a_buffer():
    """A record is written to the start of a larger buffer and read from there; the rest is unchanged."""
    record = Record(np.arange(10), metadata={"a": [1, 2]})
    buffer = bytearray(b"\xee" * 1000)
    size = encode_into(record, memoryview(buffer))
    assert size == encoded_size(record)
    assert bytes(buffer[size:]) == b"\xee" * (1000 - size)
    assert same(decode(buffer).data, record.data)
    with pytest.raises(CodecError, match=f"takes {size} bytes, the buffer has {size - 1}"):
        encode_into(record, bytearray(size - 1))
    with pytest.raises(CodecError, match="read-only"):
        encode_into(record, bytes(1000))


def _loop():
    loop = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (threading.Lock(), r"_thread\.lock cannot be written"),
        (object(), r"builtins\.object cannot be written"),
        (np.array([None]), "dtype object"),
        (np.zeros(1, [("a", "O")]), "of dtype "),
        (np.ma.masked_array([1], [True]), "masked"),
        (_loop(), "holds itself"),
        (lambda: 1, "function cannot be written"),
        (int, "type cannot be written"),
    ],
)
def test_what_cannot_be_written_is_named(value, words):
    """A value that cannot be written as bytes is rejected with its path."""
    with pytest.raises(CodecError, match=rf"^\$\.metadata\.camera\.handle.*{words}"):
        encode(Record(None, metadata={"camera": {"handle": value}}))
    with pytest.raises(CodecError, match=r"^\$\.parent\.data\[1\]"):
        encode(Record(None, parent=Record([0, value])))


def test_fields_that_cannot_be_written_are_named():
    """A number, channel or metadata key that does not fit is rejected by name."""
    with pytest.raises(CodecError, match=r"^\$\.seq: .*64 bits"):
        encode(Record(None, seq=2**70))
    with pytest.raises(CodecError, match=r"^\$\.channel: "):
        encode(Record(None, channel="\ud800"))
    with pytest.raises(CodecError, match=r"^\$\.metadata: key 1 must be a str"):
        encode(Record(None, metadata={1: 2}))


def frame(header, body=b"", *, magic=b"\x9dPSK", version=1, size=None, header_size=None):
    """Return bytes with an arbitrary false header."""
    packed = header if isinstance(header, bytes) else msgspec.msgpack.encode(header)
    total = 24 + len(packed) + len(body)
    prefix = struct.pack("<4sB3xI4xQ", magic, version, header_size or len(packed), total if size is None else size)
    return prefix + packed + body


def header(data=None, *, sizes=(), coords=None, metadata=None, parent=None):
    return [list(sizes), "c", 1, 2, False, coords or {}, metadata or {}, data, parent]


def tag(code, *items):
    return [msgspec.msgpack.Ext(code, b""), *items]


def ext(code, data=b""):
    return msgspec.msgpack.Ext(code, data)


def deep(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


LIES = {
    "nothing": b"",
    "short": b"\x9dPSK\x01",
    "magic": frame(header(), magic=b"\x93NUM"),
    "version": frame(header(), version=2),
    "size": frame(header(), size=10**18),
    "size_small": frame(header(), size=3),
    "header_size": frame(header(), header_size=2**32 - 1),
    "not_msgpack": frame(b"\xc1"),
    "list_too_long": frame(b"\xdd\xff\xff\xff\xff"),
    "map_too_long": frame(b"\xdf\xff\xff\xff\xff"),
    "text_too_long": frame(b"\x99\xdb\xff\xff\xff\xff"),
    "nested_too_deep": frame(header(deep(200))),
    "nested_far_too_deep": frame(b"\x91" * 100_000),
    "nested_lengths": frame(b"\xdc\xff\xff" * 1000),
    "types": frame([[], 1, "x", None, 3, [], {}, None, None]),
    "too_few": frame([[], "c"]),
    "keys": frame(header({1: 2})),
    "metadata_keys": frame(header(metadata={1: 2})),
    "coords": frame(header(coords={"_x": 1})),
    "coords_value": frame(header(coords={"x": 1.5})),
    "unknown_ext": frame(header(ext(99, b"x"))),
    "unknown_tag": frame(header(tag(15))),
    "tag_in_metadata": frame(header(metadata={"a": tag(5)})),
    "no_buffer": frame(header(tag(7, 0))),
    "negative_buffer": frame(header(tag(7, -1), sizes=[0])),
    "buffer_outside": frame(header(tag(7, 0), sizes=[10**15])),
    "buffer_negative": frame(header(tag(7, 0), sizes=[-64]), bytes(64)),
    "buffer_twice": frame(header([tag(7, 0), tag(7, 0)], sizes=[0])),
    "buffer_unused": frame(header(sizes=[0])),
    "bytes_left": frame(header(), b"left"),
    "object_dtype": frame(header(tag(5, 0, "|O8", [0], "C"), sizes=[0])),
    "object_field": frame(header(tag(5, 0, [["a"], ["|O"], [0], [None], 8], [0], "C"), sizes=[0])),
    "dtype_expression": frame(header(tag(5, 0, "(1000000,1000000)f8", [0], "C"), sizes=[0])),
    "dtype_nonsense": frame(header(tag(5, 0, "<f3", [0], "C"), sizes=[0])),
    "dtype_type": frame(header(tag(5, 0, 7, [0], "C"), sizes=[0])),
    "dtype_huge": frame(header(tag(5, 0, "|V999999999", [10**9], "C"), sizes=[0])),
    "dtype_deep": frame(header(tag(5, 0, deep(40), [0], "C"), sizes=[0])),
    "fields_outside": frame(header(tag(5, 0, [["a"], ["<f8"], [4], [None], 8], [0], "C"), sizes=[0])),
    "shape_wrong": frame(header(tag(5, 0, "<f8", [1], "C"), sizes=[0])),
    "shape_huge": frame(header(tag(5, 0, "<f8", [2**62, 2**62], "C"), sizes=[0])),
    "shape_huge_and_empty": frame(header(tag(5, 0, "<f8", [0, 2**63 - 1, 2**63 - 1], "C"), sizes=[0])),
    "shape_negative": frame(header(tag(5, 0, "<f8", [-1, 0], "C"), sizes=[0])),
    "shape_type": frame(header(tag(5, 0, "<f8", "x", "C"), sizes=[0])),
    "shape_dims": frame(header(tag(5, 0, "|u1", [0] * 65, "C"), sizes=[0])),
    "order": frame(header(tag(5, 0, "|u1", [0], "K"), sizes=[0])),
    "scalar": frame(header(tag(8, "<f8", b"abc"))),
    "datetime": frame(header(ext(19, b"2026-99-99"))),
    "timedelta": frame(header(ext(22, struct.pack("<iii", 2**31 - 1, 0, 0)))),
    "uuid": frame(header(ext(24, b"x"))),
    "decimal": frame(header(ext(25, b"x"))),
    "text": frame(header(ext(16, b"\xff"))),
    "odd_mapping": frame(header(tag(4, 1))),
    "unhashable": frame(header(tag(2, [1]))),
    "unhashable_key": frame(header(tag(4, [1], 2))),
    "no_coords": frame(header(tag(6, 5))),
    "parent": frame(header(parent=[1])),
    "timestamp": frame(header(metadata={"a": ext(-1, b"\xff" * 12)})),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_are_refused(name):
    """A frame or header with false sizes, shapes, depth, dtype or types is a CodecError."""
    with pytest.raises(CodecError):
        decode(LIES[name])


def test_lies_allocate_nothing():
    """A header that claims terabytes is rejected without much memory."""
    code = (
        "import resource, sys, penstock.codec, numpy; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "for line in sys.stdin:\n"
        "    try: penstock.codec.decode(bytes.fromhex(line))\n"
        "    except penstock.errors.CodecError: pass\n"
    )
    lines = "\n".join(LIES[name].hex() for name in LIES)
    subprocess.run([sys.executable, "-c", code], input=lines, text=True, check=True, timeout=60)


SAMPLE = Record(
    np.arange(24, dtype=np.uint16).reshape(4, 6),
    channel="left",
    coords=DataCoordinates(time=3),
    metadata={"values": [1, (2.5, "x"), {3}], "nested": {1: np.float32(1)}, "fields": ARRAYS["fields"], "big": 2**80},
    parent=Record(b"packet", metadata={"at": datetime(2026, 1, 1), "path": pathlib.Path("a")}),
)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_fuzz_random_bytes(noise, framed):
    """Any bytes, and any bytes in a valid frame, yield a record or a CodecError."""
    _record_or_error(frame(noise) if framed else noise)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_fuzz_mutated_records(data):
    """A record with bytes changed, removed or inserted yields a record or a CodecError."""
    encoded = bytearray(encode_bytes(SAMPLE))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(encoded) - 1))
        match data.draw(st.sampled_from(["change", "flip", "cut", "put"])):
            case "change":
                encoded[at] = data.draw(st.integers(0, 255))
            case "flip":
                encoded[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del encoded[at : at + data.draw(st.integers(1, 9))]
                encoded += b"\0"
            case _:
                encoded[at:at] = data.draw(st.binary(max_size=9))
    _record_or_error(bytes(encoded))


def _record_or_error(data):
    with contextlib.suppress(CodecError):
        assert isinstance(decode(data), Record)


@pytest.mark.parametrize("name", ["empty", "packet", "array", "values"])
def test_golden_files_of_version_1(name):
    """Records written by version 1 are read back with their values; an incompatible change needs a new version."""
    back = decode((GOLDEN / f"v1-{name}.record").read_bytes())
    wanted = golden(name)
    assert same(back.data, wanted.data)
    for field in ("channel", "seq", "time_ns", "coords", "discontinuity"):
        assert getattr(back, field) == getattr(wanted, field)
    assert same(back.metadata, wanted.metadata)
    assert (back.parent is None) == (wanted.parent is None)
    if wanted.parent is not None:
        assert same(back.parent.data, wanted.parent.data)


def golden(name):
    """Return the record from which a golden file was written."""
    about = {"channel": "left", "seq": 12, "time_ns": 1_767_225_600_000_000_000}
    values = {key: value for key, value in VALUES.items() if key not in ("containers", "path")}  # sets have no order
    arrays = {key: value for key, value in ARRAYS.items() if value.dtype.itemsize}
    return {
        "empty": Record(None),
        "packet": Record(b"\0\1\2packet", metadata={"codec": "h264", "rate": 30.0}, discontinuity=True, **about),
        "array": Record(
            np.arange(60, dtype=np.uint8).reshape(4, 5, 3),
            coords=DataCoordinates(time=3, channel="DAPI"),
            metadata={"arrays": arrays},
            parent=Record(b"packet", **about),
            **about,
        ),
        "values": Record(values, metadata={"values": values}, **about),
    }[name]


def test_no_numpy_without_arrays():
    """A record without arrays is written and read without numpy."""
    code = (
        "import sys\nfrom penstock.codec import decode, encode_bytes\nfrom penstock.record import Record\n"
        "decode(encode_bytes(Record(b'x', metadata={'a': (1, 2)})))\nassert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_a_fuzzer_found_is_refused():
    """Bytes that cause an unexpected error of a library are a CodecError like all others."""
    with pytest.raises(CodecError, match="the header of the record is wrong"):
        decode((GOLDEN / "wrong-complex-of-a-parent.bytes").read_bytes())
