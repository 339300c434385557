"""C2: SharedMemoryArray."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from penstock.errors import PenstockError
from penstock_shm import SharedMemoryArray
from penstock_shm.arrays.array_errors import (
    ArrayDataError,
    ArrayExistsError,
    ArrayIndexError,
    ArrayNotConnectedError,
    ArrayNotFoundError,
    ArrayTypeError,
    LockTimeoutError,
)


@pytest.fixture
def array():
    array = SharedMemoryArray.create_array("test", np.arange(10, dtype=np.int32))
    yield array
    array.destroy()


def test_c2_names_and_arguments(array):
    """C2: every documented name and argument exists and works."""
    assert (array.name, array.shape, array.datatype, array.is_connected) == ("test", (10,), np.int32, True)
    assert array.read_data(3) == 3
    assert array.read_data(index=(2,), convert_output=True, with_lock=False) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert array.read_data((1, 2)).tolist() == [1], "a tuple gives an array, also of one element"
    array.write_data(index=(0, 2), data=[7, 8], with_lock=True)
    array.write_data(-1, 5)
    assert array.read_data((0,), convert_output=True) == [7, 8, 2, 3, 4, 5, 6, 7, 8, 5]
    assert type(array.read_data(0, convert_output=True)) is int
    array.disconnect()
    array.disconnect()
    assert not array.is_connected
    with pytest.raises(ArrayNotConnectedError, match="connect"):
        array.read_data(0)
    array.connect()
    assert array.read_data(0) == 7
    array.destroy()
    array.destroy()
    with pytest.raises(ArrayNotFoundError, match="'test'"):
        array.connect()


def test_c2_exist_ok(array):
    """C2: a second array of the name is refused, or replaces the first, whose users keep it unchanged."""
    with pytest.raises(ArrayExistsError, match="exist_ok=True"):
        SharedMemoryArray.create_array("test", np.zeros(3))
    new = SharedMemoryArray.create_array("test", np.zeros(3), exist_ok=True)
    assert SharedMemoryArray("test").connect().shape == (3,)
    assert array.read_data(9) == 9
    array.destroy()
    assert SharedMemoryArray("test").connect().shape == (3,), "the old one's destroy leaves the new one alone"
    new.destroy()


def test_c2_unrelated_process_attaches_by_name(array, start):
    """C2: a process reads shape, type and content by the name alone."""
    assert start("show", "test").hear() == "(10,) int32 [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_c2_fork_and_spawn(array, method):
    """C2: it goes to forked and spawned processes as an argument, and their atomic additions add up."""
    context = multiprocessing.get_context(method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what users do
        processes = [context.Process(target=_add, args=(array, 300)) for _ in range(3)]
        for process in processes:
            process.start()
    for _ in range(300):
        array.add(0, 1)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
        process.close()
    if method == "spawn":
        from multiprocessing import resource_tracker

        resource_tracker._resource_tracker._stop()  # spawn's own process; nothing of ours is in it
    assert array.read_data(0) == 1200


def _add(array, times):
    array.connect()
    for _ in range(times):
        array.add(0, 1)
    array.disconnect()


def test_c2_threads_add_up(array):
    """C2: additions of many threads, through one object and through objects of their own, add up."""

    def work(mine):
        for _ in range(500):
            mine.add(0, 1)

    others = [SharedMemoryArray("test").connect() for _ in range(2)]
    threads = [threading.Thread(target=work, args=(a,)) for a in (array, array, *others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert array.read_data(0) == 2000
    for other in others:
        other.disconnect()


def test_c2_lock_is_free_when_its_holder_is_killed(array, start):
    """C2: after the death of a lock's holder others continue at once, and the death is counted."""
    peer = start("hold_lock", "test")
    assert peer.hear() == "locked"
    before = time.monotonic()
    with pytest.raises(LockTimeoutError, match=f"process {peer.pid} has held the lock"), array.locked(timeout_s=0.05):
        pass
    assert time.monotonic() - before < 5
    assert array.interrupted == 0
    peer.kill()
    array.write_data(9, 1)
    assert array.interrupted == 1
    assert array.read_data((0, 5), convert_output=True) == [99] * 5, "what the dead one wrote is there"
    array.write_data(8, 1)
    assert array.interrupted == 1


def test_c2_lock_is_reentrant_and_holds_among_threads(array):
    """C2: the lock is reentrant for its holder, and for no one else."""
    with array.locked(), array.locked():
        array.write_data(0, 4)
        failed = []

        def other():
            try:
                with array.locked(timeout_s=0.01):
                    pass
            except LockTimeoutError as error:
                failed.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(10)
        assert len(failed) == 1
        second = SharedMemoryArray("test", lock_timeout_s=0.0).connect()
        with pytest.raises(LockTimeoutError):
            second.read_data(0)
        second.disconnect()
    assert array.read_data(0) == 4


def test_c2_frames_are_never_torn(start):
    """C2: reading under the lock never sees half of a write, also when the writer is killed between."""
    array = SharedMemoryArray.create_array("frames", np.zeros((200, 1000), np.uint8))
    for _ in range(3):
        peer = start("write_frames", "frames")
        assert peer.hear() == "writing"
        for _ in range(50):
            frame = array.read_data((0,))
            if array.interrupted == 0:
                assert (frame == frame[0, 0]).all()
        peer.kill()
    array.destroy()


def test_c2_views_never_crash():
    """C2: views outlive disconnect, destroy and the array itself without a crash."""
    code = """
import gc, numpy as np
from penstock_shm import SharedMemoryArray
a = SharedMemoryArray.create_array("crash", np.arange(100_000))
with a.array() as view:
    pass
tail = view[-10:]
a.destroy()
del a, view
gc.collect()
tail[:] = 5
assert tail.sum() == 50
print("fine")
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_c2_reads_are_copies(array):
    """C2: what was read does not change when the array does."""
    part, whole = array.read_data((0, 3)), array[...]
    array.write_data((0,), 0)
    assert part.tolist() == [0, 1, 2]
    assert whole.tolist() == list(range(10))


def test_c2_many_dimensions_and_numpy_indexing():
    """C2: `array[...]` accepts every index of numpy, for reading and writing."""
    array = SharedMemoryArray.create_array("nd", np.arange(24.0).reshape(2, 3, 4))
    plain = np.arange(24.0).reshape(2, 3, 4)
    for index in (0, (1, 2), (slice(None), 1), ..., (..., 0), plain > 5, ([0, 1], [2, 0]), (slice(None, None, -1),)):
        assert np.array_equal(array[index], plain[index])
        array[index] = 1
        plain[index] = 1
    assert np.array_equal(array[...], plain)
    assert array.read_data(1).shape == (3, 4)
    assert array.add((0, 0, 0), 2.5) == 3.5
    with pytest.raises(ArrayIndexError):
        array[5]
    array.destroy()


@pytest.mark.parametrize("index", [10, -11, (0, 11), (5, 2), (11,), (), (1, 2, 3), "1", 1.0, True, None])
def test_c2_wrong_index(array, index):
    """C2: an index outside, or of another kind, is an error that names it."""
    with pytest.raises(ArrayIndexError, match="'test'"):
        array.read_data(index)
    with pytest.raises(ArrayIndexError):
        array.write_data(index, 0)


@pytest.mark.parametrize("data", [2**31, [1, 2], 1.5, "x", None, [[1]] * 10, np.array([2**40])])
def test_c2_data_that_does_not_fit(array, data):
    """C2: values that the type cannot hold, or another shape, are refused; nothing is cut and nothing is written."""
    with pytest.raises(ArrayDataError, match="'test'"):
        array.write_data((0, 3), data)
    assert array.read_data((0, 3), convert_output=True) == [0, 1, 2]


def test_c2_objects_are_refused():
    """C2: arrays of Python objects, and values that are not arrays, cannot be shared."""
    for wrong in (np.array([object()]), np.zeros(2, [("a", object)]), [1, 2]):
        with pytest.raises(ArrayTypeError):
            SharedMemoryArray.create_array("objects", wrong)


@given(
    nps.arrays(
        nps.scalar_dtypes()
        | nps.array_dtypes(nps.integer_dtypes() | nps.unicode_string_dtypes(min_len=1), max_size=3)
        | nps.byte_string_dtypes(min_len=1),
        nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=50),
)
def test_any_array_under_any_name(prototype, name):
    """Every dtype that numpy can describe is read back with shape, type and content, under any name."""
    try:
        array = SharedMemoryArray.create_array(name, prototype)
    except ArrayTypeError:
        return
    other = SharedMemoryArray(name).connect()
    assert (other.shape, other.datatype) == (prototype.shape, prototype.dtype)
    assert other[...].tobytes() == prototype.tobytes()
    other.disconnect()
    array.destroy()


def test_pickle_carries_the_name(array):
    """A pickled array is the same one, to be connected; shape and type are known before."""
    other = pickle.loads(pickle.dumps(array))
    assert (other.is_connected, other.shape, other.datatype) == (False, (10,), np.int32)
    assert other.connect().read_data(3) == 3
    other.disconnect()


def test_c2_outlives_its_maker(start):
    """C2: it exists until destroyed, after its creator has ended, without a warning of leaked memory."""
    code = "import numpy as np; from penstock_shm import *; SharedMemoryArray.create_array('stay', np.ones(3))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    array = SharedMemoryArray("stay").connect()
    assert array.read_data((0,), convert_output=True) == [1, 1, 1]
    array.destroy()


def test_c2_too_small_memory_is_a_clear_error(place):
    """C2: where memory does not suffice, making an array is an error that names need and room, and nothing is left."""
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (8,), (0,))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert free > 0
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(PenstockError, match=r"needs 4104 bytes in .*which has \d+"):
            SharedMemoryArray.create_array("huge", huge)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not [p for p in place.rglob("*") if p.is_file()]


def test_descriptors_come_back():
    """Connecting and letting go a thousand times leaves no descriptor open."""
    array = SharedMemoryArray.create_array("fds", np.zeros(10))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(1000):
        SharedMemoryArray("fds").connect()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    array.destroy()


def test_c2_disconnect_while_it_is_locked(array):
    """C2: disconnecting or destroying the array while its lock is held releases the lock without harm."""
    other = SharedMemoryArray("test", lock_timeout_s=5.0).connect()
    with array.locked():
        array.disconnect()
    other.write_data(0, 1)
    array.connect()
    with array.array() as elements:
        array.destroy()
        elements[0] = 2
    assert other.read_data(0) == 2
    other.disconnect()


def test_c2_memory_stays_where_names_are_made_and_destroyed_at_once(place):
    """C2: many threads that make, replace, connect to and destroy one name get an array, or an error that says why."""
    wrong = []

    def work():
        for number in range(30):
            try:
                with SharedMemoryArray.create_array("busy", np.full(100, number), exist_ok=True) as mine:
                    found = SharedMemoryArray("busy").connect()
                    assert len(set(found[...])) == 1
                    found.disconnect()
                    mine.destroy()
            except (ArrayNotFoundError, ArrayExistsError):
                pass
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    SharedMemoryArray("busy").destroy()
    assert list(place.rglob("*")) == []


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (2.0, "u8"), (True, "i4"), (1, "?"), (0.25, "f4"), (np.nan, "f4"), (np.inf, "f4"), (2 + 0j, "f8"),
        (2 + 0j, "i8"), ("ab", "U3"), ("ab", "S3"), (b"ab", "U3"), (2**53, "f8"), (255, "u1"), (2.0**63, "u8"),
        (-0.0, "i4"), (1, "c8"),
        (np.datetime64("2020-01-01"), "M8[s]"), (np.datetime64("NaT"), "M8[s]"),
    ],
)  # fmt: skip
def test_c2_what_loses_nothing_is_converted(value, dtype):
    """A value of another type is written where the array's type can hold the same."""
    array = SharedMemoryArray.create_array("converted", np.zeros(2, dtype))
    array.write_data(0, value)
    array.write_data((1,), [value])
    first, second = array.read_data()
    assert first == second == np.asarray(value, np.asarray(first).dtype if dtype in ("U3", "S3") else None) or (
        first != first and value != value
    )
    assert array.datatype == np.dtype(dtype)
    array.destroy()


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.5, "i4"), (300, "u1"), (-1, "u8"), (-1.0, "u8"), (2, "?"), (0.5, "?"), (1e300, "f4"), (np.nan, "i4"),
        (np.inf, "i8"), (2 + 1j, "f8"), (2 + 1j, "i8"), ("abcd", "U3"), ("abcd", "S3"), ("\xe4", "S3"), (b"abcd", "U3"),
        (2**53 + 1, "f8"), (16777217, "f4"), (70000, "f2"), (5, "U3"), ("5", "i4"), (2.0**63, "i8"), (2**70, "i8"),
        (None, "f8"), (np.datetime64("2020-01-01T00:00:01"), "M8[D]"),
    ],
)  # fmt: skip
def test_c2_what_would_lose_something_is_refused(value, dtype):
    """A value that the array's type cannot hold is refused by name, and the array stays as it was."""
    array = SharedMemoryArray.create_array("refused", np.zeros(2, dtype))
    for write in (lambda: array.write_data(0, value), lambda: array.__setitem__(slice(None), [value, value])):
        with pytest.raises(ArrayDataError, match=r"'refused': .*without loss; convert"):
            write()
    assert np.array_equal(array.read_data(), np.zeros(2, dtype), equal_nan=False) or dtype.startswith("M8")
    array.destroy()


def test_c2_an_array_that_nobody_uses_does_not_stop_the_next():
    """Once the users of an array have disconnected or ended, the name is free for the next one; not before."""
    first = SharedMemoryArray.create_array("again", np.arange(3))
    first.write_data(0, 7)
    first.disconnect()
    assert SharedMemoryArray("again").connect().read_data(0) == 7, "until then, it can be connected to"
    gc.collect()
    second = SharedMemoryArray.create_array("again", np.zeros(5))
    with pytest.raises(ArrayExistsError, match="in use"):
        SharedMemoryArray.create_array("again", np.zeros(5))
    second.disconnect()
    code = "import numpy, penstock_shm; penstock_shm.SharedMemoryArray.create_array('again', numpy.ones(2))"
    for _ in range(2):
        subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
    with SharedMemoryArray("again") as left:
        assert left.read_data().tolist() == [1, 1]
        left.destroy()


def test_c2_an_array_that_another_process_uses_stops_the_next():
    """An array is in use as long as any process is connected to it, also if its maker has disconnected."""
    array = SharedMemoryArray.create_array("theirs", np.zeros(4, np.int64))
    with multiprocessing.get_context("fork").Pool(1) as pool:  # it inherits the connection
        assert pool.apply(abs, (-1,)) == 1
        array.disconnect()
        with pytest.raises(ArrayExistsError):
            SharedMemoryArray.create_array("theirs", np.zeros(4, np.int64))
        pool.close()
        pool.join()
    SharedMemoryArray.create_array("theirs", np.zeros(4, np.int64)).destroy()
