"""C4: archives of what a DataLogger wrote, and the reader of them."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import shutil

import numpy as np
import pytest

from penstock.errors import CannotGetObjectError, ConfigError, StoreError
from penstock_npy import DataLogger, LogArchiveReader, LogPackage, compress_npy_logs
from penstock_npy.entry_files import entry_array, entry_stem
from penstock_npy.npz_file import NpzWriter, bytes_header

layouts = pytest.mark.parametrize("layout", ["files", "log"])


def log(tmp_path, layout, packages):
    """Log these; return the directory."""
    logger = DataLogger(tmp_path, layout=layout)
    with logger:
        for package in packages:
            logger.input_queue.put(package)
    return logger.output_directory


def held(path):
    with LogArchiveReader(path) as reader:
        return [(message.timestamp, message.payload.tobytes()) for message in reader]


def write(directory, source, time, payload, number=0):
    directory.mkdir(exist_ok=True)
    np.save(directory / f"{entry_stem(source, time, number)}.npy", entry_array(source, time, payload))


@layouts
def test_c4_one_archive_for_each_source_in_time_order(tmp_path, layout):
    """Each source has one archive named after it, in time order, which numpy reads; equal times are all kept."""
    packages = [LogPackage(s, t, bytes([t, n])) for s in (3, 200) for n, t in enumerate((5, 1, 9, 5, 5))]
    directory = log(tmp_path, layout, packages)
    done = compress_npy_logs(directory)
    assert sorted(path.name for path in directory.glob("*.npz")) == ["200_log.npz", "3_log.npz"]
    assert done.entries == {3: 5, 200: 5}
    for source in (3, 200):
        ordered = [(1, b"\1\1"), (5, b"\5\0"), (5, b"\5\3"), (5, b"\5\4"), (9, b"\x09\2")]
        assert held(done.archives[source]) == ordered
        with np.load(done.archives[source]) as archive:
            arrays = list(archive.values())
        assert [bytes(array[9:]) for array in arrays] == [payload for _, payload in ordered]
        assert {int(array[0]) for array in arrays} == {source}
        assert [int(array[1:9].view("<u8")[0]) for array in arrays] == [1, 5, 5, 5, 9]


@layouts
def test_c4_both_layouts_give_the_same_archive(tmp_path, layout):
    """The archive of an entry log is to the last byte that of the files."""
    packages = [LogPackage(1, t * 7 % 100, bytes(range(t))) for t in range(50)]
    one = compress_npy_logs(log(tmp_path / "a", "files", packages)).archives[1]
    other = compress_npy_logs(log(tmp_path / "b", layout, packages)).archives[1]
    assert one.read_bytes() == other.read_bytes()


@layouts
def test_c4_sources_go_only_when_asked(tmp_path, layout):
    """Sources stay unless remove_sources is True; then nothing but the archives is left."""
    directory = log(tmp_path, layout, [LogPackage(1, 0, b"a")])
    before = {path for path in directory.rglob("*") if path.is_file()}
    compress_npy_logs(directory)
    assert before < {path for path in directory.rglob("*") if path.is_file()}
    compress_npy_logs(directory, remove_sources=True)
    assert [path.name for path in directory.rglob("*")] == ["1_log.npz"]
    assert held(directory / "1_log.npz") == [(0, b"a")]


@layouts
def test_c4_a_second_session_adds(tmp_path, layout):
    """A later session adds its entries to the archive, in time order, and overwrites none."""
    directory = log(tmp_path, layout, [LogPackage(1, t, b"first") for t in (1, 3)])
    compress_npy_logs(directory, remove_sources=True)
    log(tmp_path, layout, [LogPackage(1, t, b"second") for t in (2, 3)])
    compress_npy_logs(directory, remove_sources=True)
    assert held(directory / "1_log.npz") == [(1, b"first"), (2, b"second"), (3, b"first"), (3, b"second")]


@layouts
def test_c4_the_same_sources_again_change_nothing(tmp_path, layout):
    """Compressing sources that are in the archive already gives the same archive, equal entries included."""
    directory = log(tmp_path, layout, [LogPackage(1, 5, b"twice"), LogPackage(1, 5, b"twice"), LogPackage(1, 6, b"")])
    for _ in range(3):
        compress_npy_logs(directory)
        assert held(directory / "1_log.npz") == [(5, b"twice"), (5, b"twice"), (6, b"")]


def foreign_files(directory):
    """Put files that are not entries beside the others."""
    np.save(directory / "picture.npy", np.zeros((3, 3)))
    np.save(directory / "001_00000000000000000077.npy", np.zeros(3, np.uint16))
    np.save(directory / "001_00000000000000000078.npy", entry_array(2, 78, b"of another source"))
    (directory / "001_00000000000000000079.npy").write_bytes(b"")
    np.save(directory / "001_00000000000000000080.npy", entry_array(1, 80, bytes(100)))
    with open(directory / "001_00000000000000000080.npy", "r+b") as file:
        file.truncate(180)
    return {f"001_000000000000000000{n}.npy" for n in (77, 78, 79, 80)} | {"picture.npy"}


def test_c4_damaged_and_foreign_files_are_named(tmp_path, caplog):
    """Files that are truncated, empty or foreign are named, kept and skipped; the others are archived."""
    directory = log(tmp_path, "files", [LogPackage(1, 1, b"good")])
    names = foreign_files(directory)
    with caplog.at_level(logging.WARNING, "penstock"):
        done = compress_npy_logs(directory, remove_sources=True)
    assert {path.name for path in done.skipped} == names
    assert {path.name for path in directory.glob("*.npy")} == names
    assert all(name in caplog.text for name in names)
    assert held(directory / "1_log.npz") == [(1, b"good")]


def test_c4_damaged_files_are_an_error_if_asked(tmp_path):
    """With on_damaged='error', the first damaged file is an error that names it, and no source is removed."""
    directory = log(tmp_path, "files", [LogPackage(1, 1, b"good")])
    names = foreign_files(directory)
    with pytest.raises(CannotGetObjectError, match=r"001_0+77\.npy"):
        compress_npy_logs(directory, remove_sources=True, on_damaged="error")
    assert len(list(directory.glob("*.npy"))) == len(names) + 1
    assert not list(directory.glob("*.npz"))


def test_c4_a_torn_tail_of_a_log_is_cut(tmp_path, caplog):
    """The unfinished part of a killed writer is truncated and named; a lost index is rebuilt."""
    directory = log(tmp_path, "log", [LogPackage(1, t, bytes(50)) for t in range(10)])
    (segment,) = directory.rglob("*.log")
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size - 10)
    segment.with_suffix(".idx").unlink()
    with caplog.at_level(logging.WARNING, "penstock"):
        compress_npy_logs(directory)
    assert "never finished" in caplog.text
    assert [time for time, _ in held(directory / "1_log.npz")] == list(range(9))


def test_c4_a_damaged_entry_of_a_log_costs_itself(tmp_path):
    """A byte that has changed within a log costs its entry, and the log is kept."""
    directory = log(tmp_path, "log", [LogPackage(1, t, bytes(48)) for t in range(10)])
    (segment,) = directory.rglob("*.log")
    content = bytearray(segment.read_bytes())
    content[8 + 3 * 80 + 40] ^= 1
    segment.write_bytes(content)
    done = compress_npy_logs(directory, remove_sources=True)
    assert [time for time, _ in held(done.archives[1])] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert list(done.skipped) == [segment]
    assert segment.exists()


def test_c4_a_damaged_archive_is_never_overwritten(tmp_path):
    """An archive that cannot be read is an error, and stays as it is, as the sources do."""
    directory = log(tmp_path, "files", [LogPackage(1, 1, b"good")])
    compress_npy_logs(directory)
    path = directory / "1_log.npz"
    for damaged in (b"", b"foreign", path.read_bytes()[:-30]):
        path.write_bytes(damaged)
        with pytest.raises(CannotGetObjectError, match="1_log"):
            compress_npy_logs(directory, remove_sources=True)
        assert path.read_bytes() == damaged
        assert len(list(directory.glob("*.npy"))) == 1
    assert sorted(path.name for path in directory.iterdir()) == ["001_00000000000000000001.npy", "1_log.npz"]


def test_c4_nothing_goes_if_the_archive_cannot_be_written(tmp_path, monkeypatch):
    """A disk that fills up while an archive is written costs no source and leaves no torn archive."""
    directory = log(tmp_path, "files", [LogPackage(1, t, b"good") for t in range(3)])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(NpzWriter, "finish", full)
    with pytest.raises(StoreError, match="No space left"):
        compress_npy_logs(directory, remove_sources=True)
    assert len(list(directory.glob("*.npy"))) == 3
    assert len(list(directory.iterdir())) == 3


def test_c4_no_such_directory(tmp_path):
    """A directory that is not there is an error that says what to give."""
    with pytest.raises(ConfigError, match="output_directory"):
        compress_npy_logs(tmp_path / "nothing")


@pytest.fixture
def archive(tmp_path):
    """An archive of 1,000 entries."""
    path = tmp_path / "1_log.npz"
    with path.open("wb") as file:
        writer = NpzWriter(file)
        for time in range(1000):
            content = entry_array(1, time, time.to_bytes(8, "little", signed=True)).tobytes()
            writer.add(entry_stem(1, time), bytes_header(len(content)), content)
        writer.finish()
        writer.close()
    return path


def test_c4_one_entry_of_many(archive):
    """Any entry is had by its number, negative ones from the end, and what is not there is an IndexError."""
    with LogArchiveReader(archive) as reader:
        assert len(reader) == reader.message_count == 1000
        for number in (0, 1, 500, 999, -1):
            message = reader[number]
            assert (message.source_id, message.timestamp) == (1, number % 1000)
            assert int.from_bytes(message.payload.tobytes(), "little") == number % 1000
        for number in (1000, -1001):
            with pytest.raises(IndexError, match="1000 entries"):
                reader[number]


def test_c4_onset(tmp_path):
    """The entry of time 0 says when the clock of its source stood at 0; without it, nobody knows."""
    onset = 1_700_000_000_000_000
    directory = log(tmp_path, "log", [
        LogPackage(1, 10, b"data"), LogPackage(1, 0, onset.to_bytes(8, "little", signed=True)), LogPackage(2, 3, b"x"),
        LogPackage(3, 0, b"time 0 with other data"),
    ])  # fmt: skip
    archives = compress_npy_logs(directory).archives
    onsets = []
    for path in archives.values():
        with LogArchiveReader(path) as reader:
            onsets.append(reader.onset_timestamp_us)
    assert onsets == [onset, None, None]


def _sum(reader, batch):
    with reader:
        return sum(message.timestamp for message in reader.iter_messages(batch))


def test_c4_batches_for_parallel_work(archive):
    """Batches cover each entry once, and processes work at them with the reader that they were sent."""
    with LogArchiveReader(archive) as reader:
        batches = reader.get_batches(workers=3)
        assert len(batches) == 12
        assert [number for batch in batches for number in batch] == list(range(1000))
        assert sum(_sum(pickle.loads(pickle.dumps(reader)), batch) for batch in batches) == sum(range(1000))
        assert [message.timestamp for message in reader.iter_messages([7, 3])] == [7, 3]
        with pytest.raises(ConfigError):
            reader.get_batches(workers=0)


def test_c4_a_damaged_entry_is_never_other_data(archive):
    """A changed byte costs its entry; the neighbours are read."""
    content = bytearray(archive.read_bytes())
    with LogArchiveReader(archive) as reader:
        _, _, start, size = next(reader._file.places(5, 6))
    content[start + size - 1] ^= 1
    archive.write_bytes(content)
    with LogArchiveReader(archive) as reader:
        assert reader[4].timestamp == 4
        with pytest.raises(CannotGetObjectError, match="damaged"):
            reader[5]
        assert reader[6].timestamp == 6


@pytest.mark.parametrize("size", [0, 5, 100, 3000])
def test_c4_truncated_archives(archive, size):
    """An incomplete or foreign archive is an error when it is opened."""
    with archive.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(CannotGetObjectError):
        LogArchiveReader(archive)


def test_c4_memory_does_not_grow_with_the_payload(tmp_path):
    """Compressing 256 MB of entries takes less than 64 MB more than compressing one."""
    directory = log(tmp_path, "log", (LogPackage(1, t, bytes(1 << 20)) for t in range(256)))
    shutil.copytree(directory, tmp_path / "small")
    for path in (tmp_path / "small").rglob("*.log"):
        with path.open("r+b") as file:
            file.truncate((1 << 20) + 200)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        small, large = pool.map(_peak_kib, [tmp_path / "small", directory], chunksize=1)
    assert large - small < 64 << 10


def _peak_kib(directory):
    import resource

    compress_npy_logs(directory)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
