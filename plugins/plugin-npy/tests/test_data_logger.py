"""C3: the logger that takes entries from any process, and writes them, whichever process dies."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from penstock.errors import ConfigError, StoreError
from penstock_npy import DataLogger, LogArchiveReader, LoggerFullError, LogPackage, compress_npy_logs
from penstock_npy.entry_log import EntryLog
from penstock_npy.logger_process import LoggerProcess
from penstock_npy.reserve import Reserve
from penstock_npy.segment import entry_buffers

CHILD = Path(__file__).with_name("log_child.py")
SEED_EXAMPLE = """
import tempfile
import time as tm
from pathlib import Path

import numpy as np
from penstock_npy import DataLogger, LogPackage

if __name__ == "__main__":
    tempdir = tempfile.TemporaryDirectory()
    logger = DataLogger(output_directory=Path(tempdir.name), instance_name="my_name")
    logger.start()
    logger_queue = logger.input_queue
    source_id, timestamp = np.uint8(1), np.uint64(tm.perf_counter_ns())
    logger_queue.put(LogPackage(source_id, timestamp, np.array([1, 2, 3, 4, 5], dtype=np.uint8)))
    timestamp = np.uint64(tm.perf_counter_ns())
    logger_queue.put(LogPackage(source_id, timestamp, np.array([6, 7, 8, 9, 10], dtype=np.uint8)))
    logger.stop()
    assert logger.output_directory.name == "my_name_data_log"
    assert len(list(logger.output_directory.glob("**/*.npy"))) == 2
    logger.compress_logs(remove_sources=True)
    assert len(list(logger.output_directory.glob("**/*.npy"))) == 0
    assert len(list(logger.output_directory.glob("**/*.npz"))) == 1
    tempdir.cleanup()
"""


layouts = pytest.mark.parametrize("layout", ["files", "log"])


@pytest.fixture
def log_child(monkeypatch):
    """What processes do, as a module that those that are spawned find, too."""
    monkeypatch.syspath_prepend(str(CHILD.parent))
    yield importlib.import_module("log_child")
    del sys.modules["log_child"]


@pytest.fixture
def make(tmp_path):
    """Make loggers, and stop them at the end."""
    made = []

    def make_logger(**settings):
        made.append(DataLogger(tmp_path, **settings))
        return made[-1]

    yield make_logger
    for logger in made:
        logger.stop()


def entries(logger):
    """Return (time, payload) of all entries of each source, in order."""
    done = compress_npy_logs(logger.output_directory)
    assert not done.skipped
    found = {}
    for source, path in done.archives.items():
        with LogArchiveReader(path) as reader:
            found[source] = [(message.timestamp, message.payload.tobytes()) for message in reader]
    return found


def expected(count, size=16):
    return [(time, time.to_bytes(8, "little").ljust(size, b"\0")) for time in range(count)]


@pytest.mark.parametrize("turn", [1, 2])
def test_c3_the_example_of_the_seed_runs(turn, tmp_path):
    """The README's example runs as a program of its own, with nothing but its import changed."""
    script = tmp_path / "example.py"
    script.write_text(SEED_EXAMPLE)
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@layouts
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 about fork and threads
def test_c3_processes_put_what_is_there_after_stop(make, log_child, layout, method):
    """Entries that several processes put before stop are on the disk after it, each source in its order."""
    logger = make(layout=layout)
    logger.start()
    log_child.put_many(logger.input_queue, 0, 10)  # a connection that a fork inherits
    context = multiprocessing.get_context(method)
    producers = [context.Process(target=log_child.put_many, args=(logger.input_queue, n, 300)) for n in (1, 2)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
        assert producer.exitcode == 0
        producer.close()
    logger.stop()
    assert entries(logger) == {0: expected(10), 1: expected(300), 2: expected(300)}


@layouts
def test_c3_a_killed_producer_costs_nothing_that_it_put(make, log_child, layout):
    """What `put` returned for is written though its process is killed at once, and the others go on."""
    logger = make(layout=layout)
    logger.start()
    context = multiprocessing.get_context("spawn")
    producer = context.Process(target=log_child.put_and_die, args=(logger.input_queue, 1, 200))
    producer.start()
    producer.join()
    assert producer.exitcode == -signal.SIGKILL
    producer.close()
    log_child.put_many(logger.input_queue, 2, 200)
    logger.stop()
    assert entries(logger) == {1: expected(200), 2: expected(200)}


@layouts
@pytest.mark.parametrize("ending", ["own_a_logger", "end_without_stop"])
def test_c3_a_parent_that_ends_leaves_no_orphan(tmp_path, layout, ending):
    """When the parent is killed, or ends without stop, the process that writes writes all, and ends."""
    parent = subprocess.Popen(
        [sys.executable, CHILD, ending, tmp_path, layout], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        pid = int(parent.stdout.readline())
        writer = os.pidfd_open(pid)
        try:
            if ending == "own_a_logger":
                parent.kill()
            parent.stdin.close()
            parent.wait()
            import select

            assert select.select([writer], [], [], 20)[0], "the process that writes is still there"
        finally:
            os.close(writer)
    done = compress_npy_logs(tmp_path / "data_logger_data_log")
    with LogArchiveReader(done.archives[1]) as reader:
        assert [message.timestamp for message in reader] == list(range(500))


@layouts
def test_c3_start_again_after_stop(make, layout):
    """After stop, nothing can be put, and start makes the same queue work again; nothing is overwritten."""
    logger = make(layout=layout)
    queue = logger.input_queue
    with pytest.raises(StoreError, match=r"call start\(\) first"):
        queue.put(LogPackage(1, 0, b"early"))
    for turn in range(3):
        logger.start()
        assert logger.alive
        queue.put(LogPackage(1, 7, b"%d" % turn))
        logger.stop()
        assert not logger.alive
        with pytest.raises(StoreError, match=r"call start\(\)"):
            queue.put(LogPackage(1, 8, b"late"))
    assert entries(logger) == {1: [(7, b"0"), (7, b"1"), (7, b"2")]}


@layouts
def test_c3_a_producer_that_is_too_fast_waits_and_is_told(make, layout):
    """While the disk does not keep up, put waits, raises after its time, and nothing that it took is lost."""
    logger = make(layout=layout)
    logger.start()
    os.kill(logger._process.pid, signal.SIGSTOP)
    taken: list[int] = []

    def put_until_full():
        while len(taken) < 10_000:
            logger.input_queue.put(LogPackage(1, len(taken), bytes(4096)), timeout=0.1)
            taken.append(len(taken))

    try:
        with pytest.raises(LoggerFullError, match="did not keep up"):
            put_until_full()
        with pytest.raises(TimeoutError):
            logger.input_queue.put_nowait(LogPackage(1, 0, bytes(1 << 20)))
    finally:
        os.kill(logger._process.pid, signal.SIGCONT)
    logger.stop()
    assert [time for time, _ in entries(logger)[1]] == taken


@layouts
def test_c3_many_threads_and_large_entries(make, layout):
    """Threads of one process put entries of all sizes at once, and none is mixed with another."""
    logger = make(layout=layout)
    logger.start()
    sizes = [0, 1, 7, 8, 1000, 300_000, 3_000_000]

    def put(source):
        for time, size in enumerate(sizes):
            logger.input_queue.put(LogPackage(source, time, bytes([source]) * size))

    threads = [threading.Thread(target=put, args=(source,)) for source in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logger.stop()
    assert entries(logger) == {
        source: [(time, bytes([source]) * size) for time, size in enumerate(sizes)] for source in (1, 2, 3)
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((256, 0, b""), "256 is not between 0 and 255"),
        ((-1, 0, b""), "-1 is not between"),
        ((np.uint16(300), 0, b""), "300 is not"),
        ((1.0, 0, b""), "not a whole number"),
        ((1, 1 << 64, b""), "is not between"),
        ((1, 0, np.zeros(4, np.uint16)), r"an array \(4,\) of uint16; .*view\(numpy.uint8\)"),
        ((1, 0, np.zeros((2, 2), np.uint8)), r"\(2, 2\)"),
        ((1, 0, [1, 2]), "list"),
    ],
    ids=str,
)
def test_c3_what_an_entry_cannot_hold_is_refused(arguments, message):
    """Source ids over 255, payloads that are not bytes and times that do not fit are errors where they are made."""
    with pytest.raises(ConfigError, match=message):
        LogPackage(*arguments)


def test_c3_the_payload_is_a_copy(make):
    """What a source does with its array after it made the package changes nothing."""
    logger = make()
    logger.start()
    data = np.ones(3, np.uint8)
    package = LogPackage(np.uint8(255), np.uint64(0), data[::-1])
    data[:] = 9
    logger.input_queue.put(package)
    logger.stop()
    assert entries(logger) == {255: [(0, b"\1\1\1")]}


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\0b"])
def test_c3_names_that_are_no_directory(tmp_path, name):
    """A name that leads elsewhere is refused."""
    with pytest.raises(ConfigError, match="instance_name"):
        DataLogger(tmp_path, name)


def test_c3_a_directory_that_cannot_be_made(tmp_path):
    """Where the directory cannot be made, start says so, and nothing runs."""
    (tmp_path / "file").write_bytes(b"")
    logger = DataLogger(tmp_path / "file")
    with pytest.raises(StoreError, match="output_directory"):
        logger.start()
    assert not logger.alive


def test_c3_a_put_of_something_else(make):
    """An object that is not a LogPackage is refused in the process that puts it."""
    logger = make()
    with pytest.raises(TypeError, match="put a LogPackage, not bytes"):
        logger.input_queue.put(b"bytes")


def test_c3_a_writer_that_dies_is_reported(make):
    """If the process that writes is killed, put and stop say so, and the logger can be started again."""
    logger = make()
    logger.start()
    logger.input_queue.put(LogPackage(1, 0, b"x"))
    logger._process.kill()
    logger._process.wait()
    assert not logger.alive
    with pytest.raises(StoreError):
        logger.input_queue.put(LogPackage(1, 1, b"x"))
    with pytest.raises(StoreError, match="not everything was written"):
        logger.stop()
    logger.start()
    logger.input_queue.put(LogPackage(1, 2, b"x"))
    logger.stop()
    assert 2 in [time for time, _ in entries(logger)[1]]


@layouts
def test_c3_a_full_disk_makes_producers_wait(tmp_path, layout, monkeypatch, capfd):
    """While the disk is full nothing is lost: the writer tries again until there is room."""
    logger = DataLogger(tmp_path, layout=layout)
    logger.start()
    pid = logger._process.pid
    unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (5000, unlimited[1]))
    sizes = [100, 100_000, 200]
    for time, size in enumerate(sizes):
        logger.input_queue.put(LogPackage(1, time, bytes(size)))
    with open(f"/proc/{pid}/stat"):
        waiting = threading.Event()
        while "trying again" not in capfd.readouterr().err:
            assert logger.alive
            waiting.wait(0.02)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
    logger.stop()
    assert [(time, len(payload)) for time, payload in entries(logger)[1]] == list(enumerate(sizes))


@layouts
def test_c3_a_reserve_is_left_free(tmp_path, layout, capfd):
    """What would leave less than `reserve_bytes` free is not written: the writer reports the figures and waits."""
    status = os.statvfs(tmp_path)
    logger = DataLogger(tmp_path, layout=layout, reserve_bytes=2 * status.f_blocks * status.f_frsize)
    logger.start()
    logger.input_queue.put(LogPackage(1, 0, b"x"))
    said, waiting = "", threading.Event()
    while "trying again" not in said:
        assert logger.alive
        waiting.wait(0.02)
        said += capfd.readouterr().err
    assert "bytes are free on the disk" in said
    assert "reserve_bytes=" in said
    assert not list(logger.output_directory.rglob("*.*"))
    os.kill(logger._process.pid, signal.SIGKILL)
    with pytest.raises(StoreError, match="not everything was written"):
        logger.stop()


def test_c3_room_above_the_reserve_is_used_when_it_comes(tmp_path, monkeypatch):
    """Entries that waited for room above the reserve are written when there is some."""
    free = iter([0, 0])
    monkeypatch.setattr("penstock_npy.reserve._free_bytes", lambda path: next(free, 10**9))
    parent, other = os.pipe()
    os.set_blocking(parent, False)
    writer = EntryLog(tmp_path)
    process = LoggerProcess(None, parent, writer, Reserve("DataLogger", tmp_path, 1000))
    process._write([(1, 5, memoryview(b"".join(entry_buffers(5, 0, b"x", 1))))])
    writer.close()
    os.close(parent)
    os.close(other)
    assert next(free, None) is None
    assert compress_npy_logs(tmp_path).entries == {1: 1}


@pytest.mark.parametrize("value", [-1, 1.5, "1", True])
def test_c3_a_reserve_is_a_number_of_bytes(tmp_path, value):
    """An invalid reserve is rejected when the logger is created."""
    with pytest.raises(ConfigError, match="reserve_bytes"):
        DataLogger(tmp_path, reserve_bytes=value)


def test_c3_compressing_while_it_writes_is_refused(make):
    """Logs are compressed when the logger has stopped."""
    logger = make()
    logger.start()
    with pytest.raises(StoreError, match=r"call stop\(\) before"):
        logger.compress_logs()


def test_c3_nothing_is_left_in_the_temporary_directory(tmp_path, monkeypatch):
    """After stop and the end of the logger, its socket is gone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    logger = DataLogger(tmp_path / "out")
    logger.start()
    logger.stop()
    del logger
    assert [name for name in os.listdir(tmp_path) if re.match("penstock-log-", name)] == []
