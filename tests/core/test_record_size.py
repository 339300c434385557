"""The sizes that edges count for records."""

import attrs
import numpy
import pytest

import penstock as ps
from penstock.record import Record
from penstock.record_size import OVERHEAD_BYTES, Sizes, size_of, total_bytes, weigh, weights

MB = 1_000_000


@attrs.define
class Slotted:
    __held: object


class Odd:
    def __getattr__(self, name):
        raise SystemError("no")

    def __sizeof__(self):
        raise ValueError("no")


def frame():
    return numpy.zeros(MB, "u1")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Record(frame()),
        lambda: Record(bytes(MB)),
        lambda: Record({"left": [(frame(),)]}),
        lambda: Record({frozenset([1]): {"deep": [{"er": bytearray(MB)}]}}),
        lambda: Record(memoryview(bytes(MB))),
        lambda: Record([memoryview(frame())]),
        lambda: Record(None, parent=Record(frame())),
        lambda: Record(None, metadata={"thumb": frame()}),
        lambda: Record(None, parent=Record(None, metadata={"thumb": [frame()]})),
        lambda: Record([Record(frame())]),
        lambda: Record(Slotted(frame())),
        lambda: Record(numpy.array([frame(), None], dtype=object)),
        lambda: Record(numpy.ma.masked_array(numpy.zeros(MB // 2, "u1"), mask=numpy.zeros(MB // 2, "?"))),
    ],
)
def test_all_buffers_that_a_record_holds_are_counted(make):
    """Wherever in a record a buffer lies, an edge counts it once."""
    (size,) = weights([make()])
    assert MB <= size < 1.05 * MB


def test_a_buffer_that_is_reached_twice_counts_once():
    """One array in data, metadata and parent counts once; two views of a base count no more than the base."""
    array = frame()
    record = Record([array, array], metadata={"a": array}, parent=Record(array))
    assert weights([record])[0] < 1.05 * MB
    assert size_of([array[:], array[:], array[10:]]) < 1.05 * MB
    assert size_of([array[:1000], array[1000:2000]]) < 5000
    assert size_of(numpy.broadcast_to(array, (1000, MB))) == MB


def test_what_holds_itself_or_cannot_be_looked_into_is_weighed():
    """Weighing terminates without an error for any data."""
    loop: list = []
    loop.append(loop)
    assert size_of(loop) > 0
    assert size_of(Odd()) > 0
    assert size_of([Odd(), frame()]) >= MB
    assert size_of(len) == size_of(test_what_holds_itself_or_cannot_be_looked_into_is_weighed) == 0


def test_records_of_different_size_are_cut_apart():
    """The parts of a list of different sizes have the same total weight as the records, and keep their order."""
    records = [Record(bytes(size)) for size in (10, 10, MB, MB, 10, 2 * MB)]
    parts = Sizes(records).even_parts(1000)
    assert [record for part, _ in parts for record in part] == records
    assert [(len(part), each) for part, each in parts] == [
        (2, OVERHEAD_BYTES + 10),
        (2, OVERHEAD_BYTES + MB),
        (1, OVERHEAD_BYTES + 10),
        (1, OVERHEAD_BYTES + 2 * MB),
    ]
    assert len(Sizes(records).even_parts(10 * MB)) == 1


def test_frames_with_plain_metadata_are_weighed_without_a_walk(monkeypatch):
    """Numbers, short texts and short lists beside an array are added up directly, to about the result of a walk."""
    metadata = {"codec": "h264", "pts": 1, "time_base": [1, 25], "is_keyframe": True, "gain": 1.5}
    parent = Record(b"p" * 9000, metadata=metadata)
    frame = Record(numpy.zeros((100, 200, 3), numpy.uint8), metadata={**metadata, "rotation": 0}, parent=parent)
    walked = size_of(frame)
    shared = Record(numpy.frombuffer(parent.data, numpy.uint8), parent=parent)
    walked_shared = size_of(shared)
    assert abs(weigh([shared]) - OVERHEAD_BYTES - walked_shared) < 500
    monkeypatch.setattr("penstock.record_size._walk", None)
    assert abs(weigh([frame]) - OVERHEAD_BYTES - walked) < 2000


@pytest.mark.parametrize(
    "records",
    [
        [Record(1), Record(None), Record(2.5)],
        [Record(b"x" * size) for size in (1, 2, 30)],
        [Record(bytes(size), metadata={"exposure": 5.0, "name": "cam", "raw": b"abc"}) for size in (100, 90)],
        [Record(numpy.zeros(9, "u2")), Record(numpy.zeros(4))],
        [Record(numpy.zeros(900, "u2"), metadata={"n": 1}), Record(numpy.zeros(4))],
        [Record(1, metadata={"thumb": numpy.zeros(50_000)})],
        [Record(1, metadata={"text": "x" * 50_000})],
        [Record(1, metadata={"deep": [numpy.zeros(50_000)]}), Record(b"x")],
        [Record(numpy.array([numpy.zeros(50_000), None], dtype=object)), Record(numpy.zeros(4))],
        [Record(1), Record(1, parent=Record(bytes(50_000)))],
        [Record(b"x"), Record(numpy.zeros(50_000)), Record({"deep": bytes(50_000)})],
        [Record(numpy.zeros(50_000)[::2]), Record(numpy.zeros(50_000)[10:])],
    ],
    ids=lambda records: repr(records)[:60],
)
def test_a_list_is_weighed_at_once_to_what_its_records_weigh(records):
    """The sum for a list, which takes a few passes, is about that of its records, each looked into."""
    assert abs(total_bytes(records) - sum(weights(records))) <= 100 * len(records)


def test_a_heavy_record_amid_light_ones_is_found():
    """One record with a large thumbnail in its metadata among a thousand small ones is weighed, wherever it lies."""
    records = [Record(b"x", metadata={"n": n}) for n in range(1000)]
    records[500] = Record(b"x", metadata={"thumb": frame()})
    assert total_bytes(records) > MB
    assert max(each for _, each in Sizes(records).even_parts(1000)) > MB


class Tensor:
    """An object that counts how often its size is asked for."""

    asked = 0

    @property
    def nbytes(self):
        self.asked += 1
        return 100


def test_a_list_that_several_edges_take_is_measured_once():
    """However many branches receive a list, its records are looked into once for all their edges."""
    tensors = [Tensor() for _ in range(100)]
    source = ps.source(tensors)
    report = ps.Pipeline(*(source >> ps.store("null", name=name) for name in "abc")).run()
    assert report.stored == 300
    # Lanes look at the first and the last record of their lists too, but not at those between.
    assert min(tensor.asked for tensor in tensors) == 1
