"""Records keep their content when a source or a caller reuses its memory."""

import array
import itertools
import weakref

import numpy
import pytest

import penstock as ps
from penstock.buffers import LEARNT_FROM, BufferWatch
from penstock.errors import BufferReusedError, EndOfSource
from penstock.handler import DataHandler
from penstock.record import Record

COUNT = 3 * LEARNT_FROM


def one_array():
    buffer = numpy.zeros(4, "u2")
    for number in range(COUNT):
        buffer[:] = number
        yield buffer


def ring_of_three():
    buffers = [numpy.zeros(4, "u2") for _ in range(3)]
    for number in range(COUNT):
        buffers[number % 3][:] = number
        yield buffers[number % 3]


def ring_in_one_base():
    base = numpy.zeros((3, 4), "u2")
    for number in range(COUNT):
        base[number % 3] = number
        yield base[number % 3]


def new_view_each_time():
    base = bytearray(8)
    for number in range(COUNT):
        view = numpy.frombuffer(base, "u2")
        view[:] = number
        yield view


def read_only_view():
    buffer = numpy.zeros(4, "u2")
    for number in range(COUNT):
        buffer[:] = number
        view = buffer[:]
        view.flags.writeable = False
        yield view


def in_a_dict():
    buffer = numpy.zeros(4, "u2")
    for number in range(COUNT):
        buffer[:] = number
        yield {"left": [buffer], "n": number}


def one_dict():
    data: dict = {}
    for number in range(COUNT):
        data["n"] = number
        yield data


def bytes_array():
    buffer = bytearray(8)
    for number in range(COUNT):
        buffer[0] = number
        yield buffer


def view_of_memory():
    buffer = bytearray(8)
    for number in range(COUNT):
        buffer[0] = number
        yield memoryview(buffer)


def array_of_python():
    buffer = array.array("H", [0])
    for number in range(COUNT):
        buffer[0] = number
        yield buffer


def in_records():
    buffer = numpy.zeros(4, "u2")
    for number in range(COUNT):
        buffer[:] = number
        yield Record(buffer, seq=number)


def in_metadata():
    buffer = numpy.zeros(4, "u2")
    for number in range(COUNT):
        buffer[:] = number
        yield Record(b"", seq=number, metadata={"thumb": buffer})


def number_in(record):
    found = record.metadata["thumb"] if record.metadata else record.data
    if isinstance(found, dict):
        return found["left"][0][0] if "left" in found else found["n"]
    return found[0]


def data_of(item):
    return item.data if isinstance(item, Record) else item


GENERATORS = [
    one_array,
    ring_of_three,
    ring_in_one_base,
    new_view_each_time,
    read_only_view,
    in_a_dict,
    one_dict,
    bytes_array,
    view_of_memory,
    array_of_python,
    in_records,
    in_metadata,
]


class OwnSource:
    """A user's source that returns one item per read."""

    def __init__(self, items):
        self.items = items

    def open(self):
        self.numbers = itertools.count()

    def read(self, max_records, timeout_s):
        for item in self.items:
            if isinstance(item, Record):
                return [item]
            return [Record(item, seq=next(self.numbers))]
        raise EndOfSource("no more")

    def close(self):
        pass


@pytest.mark.parametrize("make", GENERATORS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("wrap", [lambda items: items, OwnSource], ids=["iterable", "source"])
def test_what_is_filled_again_is_stored_as_it_was(make, wrap):
    """Each record has the content that it had when it was returned."""
    seen = []
    flow = ps.source(wrap(make())) >> (lambda record: seen.append(record)) >> ps.store("null")
    report = ps.Pipeline(flow).run()
    assert [int(number_in(record)) for record in seen] == list(range(COUNT))
    assert report.ok


@pytest.mark.parametrize("make", [one_array, ring_of_three, ring_in_one_base, in_a_dict, bytes_array])
def test_a_handler_keeps_what_was_put(make, tmp_path, monkeypatch):
    """`DataHandler.put` copies the content, so the caller may reuse the memory."""
    monkeypatch.chdir(tmp_path)
    with DataHandler(ps.store("memory")) as handler:
        for number, data in enumerate(make()):
            handler.put({"n": number}, data)
        handler.finish()
        found = [handler.get_data({"n": number}) for number in range(COUNT)]
    assert [int(number_in(Record(data))) for data in found] == list(range(COUNT))


def test_what_is_allocated_anew_is_not_copied_for_ever():
    """Of a generator that creates each array, only the first ones are copied."""
    made = []

    def frames():
        for number in range(COUNT):
            frame = numpy.full(4, number)
            made.append(weakref.ref(frame))
            yield frame

    shared = []

    def look(record):
        own = made[record.seq]()
        shared.append(own is not None and numpy.shares_memory(record.data, own))

    assert ps.Pipeline(ps.source(frames()) >> look >> ps.store("null")).run().ok
    assert shared == [False] * LEARNT_FROM + [True] * (COUNT - LEARNT_FROM)


def test_memory_that_comes_back_late_is_an_error_that_names_the_setting():
    """A ring larger than the learning phase is rejected while a record of it is in flight."""
    ring = [numpy.zeros(4) for _ in range(LEARNT_FROM + 4)]
    seen = []
    report = ps.Pipeline(
        ps.source(itertools.islice(itertools.cycle(ring), 100)) >> seen.append >> ps.store("null")
    ).run()
    assert not report.ok
    assert "reuses_buffers=True" in " ".join(report.problems)
    watch = BufferWatch(None, "me")
    for frame in ring:
        watch.kept(frame)  # nobody keeps what it returns
    with_copy = [watch.kept(frame) for frame in ring]
    assert not any(numpy.shares_memory(a, b) for a, b in zip(ring[LEARNT_FROM:], with_copy[LEARNT_FROM:], strict=True))


def test_the_setting_decides():
    """True copies from the first record on; False copies nothing."""
    frame = numpy.zeros(4)
    for reuses in (True, False):
        watch = BufferWatch(reuses, "me")
        assert [numpy.shares_memory(watch.kept(frame), frame) for _ in range(COUNT)] == [not reuses] * COUNT


def test_the_error_is_one_of_penstock():
    """Memory that is reused while its record is in flight raises BufferReusedError."""
    watch = BufferWatch(None, "camera 3")
    frames = [numpy.zeros(4) for _ in range(LEARNT_FROM + 1)]
    kept = [watch.kept(frame) for frame in frames]
    with pytest.raises(BufferReusedError, match=r"camera 3.*reuses_buffers=True"):
        watch.kept(frames[-1])
    assert kept


def test_a_constant_that_nobody_can_write_to_is_not_copied():
    """A read-only array that is returned repeatedly is not copied, nor are the items of a list."""
    frame = numpy.zeros(4)
    frame.flags.writeable = False
    seen = []
    ps.Pipeline(ps.source(itertools.repeat(frame, COUNT)) >> seen.append >> ps.store("null")).run()
    assert all(record.data is frame for record in seen)
    frames = [numpy.zeros(4)] * COUNT
    ps.Pipeline(ps.source(frames) >> seen.append >> ps.store("null")).run()
    assert all(record.data is frames[0] for record in seen[COUNT:])


def test_metadata_that_all_share_do_not_have_the_arrays_copied():
    """One dict for all records is copied itself; the frames are not."""
    shared = {"run": 1}
    arrays = [numpy.zeros(4) for _ in range(COUNT)]
    frames = (Record(array, seq=number, metadata=shared) for number, array in enumerate(arrays))
    seen = []
    ps.Pipeline(ps.source(frames) >> seen.append >> ps.store("null")).run()
    assert all(numpy.shares_memory(record.data, arrays[record.seq]) for record in seen[LEARNT_FROM:])
    assert all(record.metadata == shared and record.metadata is not shared for record in seen)


@pytest.mark.parametrize("wrap", [lambda frame: frame, Record], ids=["array", "record"])
def test_an_array_that_its_producer_let_go_is_passed_on_as_it_is(wrap):
    """After the first items, an array that nobody else holds is not watched: it cannot be filled again; others are."""
    watch = BufferWatch(None, "me")
    assert not watch.trusts
    for _ in range(LEARNT_FROM):
        watch.kept(wrap(numpy.zeros(4)))
    assert watch.trusts
    items, held = [], numpy.zeros(4)
    assert watch.add(items, wrap(numpy.zeros(4)))
    watch.settle(items)
    assert data_of(items[-1]).base is None
    for frame in (held, held[:2]):
        if watch.add(items, wrap(frame)):
            watch.settle(items)
        assert data_of(items[-1]).base is held
    with pytest.raises(BufferReusedError):
        watch.add(items, wrap(held))
    assert len(items) == 3


@pytest.mark.parametrize("wrap", [lambda frame: frame, Record], ids=["array", "record"])
@pytest.mark.parametrize("late", [LEARNT_FROM + 1, LEARNT_FROM + 2, 2 * LEARNT_FROM])
def test_a_producer_that_begins_to_reuse_memory_is_found_at_the_next_item(wrap, late):
    """No record holds what was filled in later: the run ends at an array that comes back while it is in flight."""

    def frames():
        frame = numpy.zeros(4, "i8")
        for number in range(100):
            if number < late:
                frame = numpy.full(4, number)
            frame[:] = number
            yield wrap(frame)

    seen = []
    report = ps.Pipeline(ps.source(frames()) >> (lambda r: seen.append(r)) >> ps.store("null")).run()
    assert not report.ok
    assert "reuses_buffers=True" in " ".join(report.problems)
    numbers = [record.data[0] for record in seen]
    assert len(set(numbers)) == len(numbers)
    assert numbers[: late - 2] == list(range(late - 2))
