"""What the files of the npy store are, and what happens to those that are there already."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy
import pytest

from penstock.coords import DataCoordinates
from penstock.errors import (
    CannotConnectToStoreError,
    CannotGetObjectError,
    CoordinatesError,
    RecordExistsError,
    StoreError,
)
from penstock.record import Record
from penstock.testing import no_leaks, permissions_hold
from penstock.testing.samples import ARRAYS
from penstock_npy import NpyStore
from penstock_npy.files import FileWriter

PATH = "{{ channel }}/{{ '%06d' % seq }}.npy"


@pytest.fixture
def opened(request):
    """Open stores, and close them at the end."""
    stores = []

    def open_store(**settings):
        store = NpyStore(**{"path": PATH, **settings})
        store.open()
        stores.append(store)
        return store

    with no_leaks():
        yield open_store
        for store in stores:
            store.close()


def record(number=0, **fields):
    return Record(numpy.arange(6).reshape(2, 3) + number, channel="camera", seq=number, **fields)


@pytest.mark.parametrize("name", ARRAYS)
def test_a4_numpy_writes_the_same_bytes(opened, tmp_path, name):
    """A file is to the last byte what numpy.save writes."""
    array = ARRAYS[name]()
    opened(root=tmp_path).write([Record(array, channel="c")])
    numpy.save(tmp_path / "expected.npy", array)
    assert (tmp_path / "c/000000.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


def test_field_names_beyond_latin_1(opened, tmp_path):
    """A structured array whose fields have names of any script is read by numpy as it was."""
    array = numpy.array([(1, 2.0)], [("時", "i4"), ("x", "f8")])
    opened(root=tmp_path).write([Record(array, channel="c")])
    found = numpy.load(tmp_path / "c/000000.npy")
    assert found.dtype == array.dtype
    assert found.tobytes() == array.tobytes()


def test_a4_parents_are_made_from_the_template(opened, tmp_path):
    """The path comes from the metadata, and its directories are made."""
    store = opened(path=str(tmp_path) + "/{{ run }}/{{ detector }}/{{ seq }}.npy")
    store.write([record(3, metadata={"run": "r1", "detector": "left"})])
    assert numpy.array_equal(numpy.load(tmp_path / "r1/left/3.npy"), record(3).data)


def test_a_taken_name_is_refused_with_advice(opened, tmp_path):
    """A template that gives every record one name writes the first, refuses the others and says what to add."""
    store = opened(root=tmp_path, path="frame.npy")
    with pytest.raises(RecordExistsError, match=r"\{\{ '%06d' % seq \}\} into the path") as caught:
        store.write([record(0), record(1), record(2)])
    assert [failed.seq for failed, _ in caught.value.failed] == [1, 2]
    assert numpy.array_equal(numpy.load(tmp_path / "frame.npy"), record(0).data)


def test_skip_keeps_and_replace_overwrites(opened, tmp_path):
    """`skip` leaves the first file as it was, `replace` puts the new one in its place."""
    opened(root=tmp_path, path="x.npy", when_exists="skip").write([record(0), record(1)])
    assert numpy.load(tmp_path / "x.npy")[0, 0] == 0
    opened(root=tmp_path, path="x.npy", when_exists="replace").write([record(2), record(3)])
    assert numpy.load(tmp_path / "x.npy")[0, 0] == 3
    assert sorted(os.listdir(tmp_path)) == [".index", "x.npy"]


@pytest.mark.parametrize("data", [[1, 2], 3.5, numpy.float64(1), b"bytes", None, {"a": 1}], ids=repr)
def test_what_is_no_array_is_refused(opened, tmp_path, data):
    """Data that is not an array is refused with its type and a remedy, and nothing is written."""
    with pytest.raises(StoreError, match=f"holds {type(data).__name__}, not a numpy array; convert it") as caught:
        opened(root=tmp_path).write([Record(data, channel="c")])
    assert not caught.value.retryable
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "array",
    [numpy.array([None]), numpy.ma.array([1, 2], mask=[0, 1]), numpy.zeros(2, [("a", object)])],
    ids=["objects", "masked", "object field"],
)
def test_arrays_that_a_file_cannot_hold_are_refused(opened, tmp_path, array):
    """Python objects and masks, which a file would lose or pickle, are refused."""
    with pytest.raises(StoreError) as caught:
        opened(root=tmp_path).write([Record(array, channel="c")])
    assert not caught.value.retryable
    assert os.listdir(tmp_path) == []


def test_several_errors_of_one_call(opened, tmp_path):
    """A call with a taken name and a bad record names both, each with its own error."""
    store = opened(root=tmp_path)
    store.write([record(0)])
    with pytest.raises(StoreError, match="2 of 3 records were not written") as caught:
        store.write([record(0), record(1), Record("text", channel="c")])
    assert [type(error) for _, error in caught.value.failed] == [RecordExistsError, StoreError]
    assert (tmp_path / "camera/000001.npy").exists()


def test_a_missing_key_is_never_rendered_as_nothing(opened, tmp_path):
    """A record without what the template names is refused by name; those that have it are written."""
    store = opened(root=tmp_path, path="{{ shot }}/{{ seq }}.npy")
    with pytest.raises(StoreError, match="shot") as caught:
        store.write([record(0, metadata={"shot": 5}), record(1)])
    assert not caught.value.retryable
    assert [path.name for path in (tmp_path / "5").iterdir()] == ["0.npy"]


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/out", "a\x00b", "a\nb"])
def test_metadata_cannot_lead_out_of_the_root(opened, tmp_path, name):
    """A path from the network stays below the root, or the record is refused."""
    root = tmp_path / "root"
    store = opened(root=root, path="{{ name }}/{{ seq }}.npy")
    with contextlib.suppress(StoreError):  # refused, or made harmless
        store.write([record(metadata={"name": name})])
    outside = [path for path in tmp_path.rglob("*.npy") if root not in path.parents]
    assert outside == []


def test_sidecar_holds_what_the_array_does_not(opened, tmp_path):
    """With a sidecar, `get` gives the whole record back; scalars of numpy in the metadata are plain numbers."""
    store = opened(root=tmp_path, sidecar="json")
    written = record(1, time_ns=5, coords=DataCoordinates(z=2), metadata={"gain": numpy.float32(1.5)})
    store.write([written])
    found = store.get("camera/000001.npy")
    assert (found.channel, found.seq, found.time_ns) == ("camera", 1, 5)
    assert found.coords == {"z": 2}
    assert found.metadata == {"gain": 1.5}
    assert list(store.keys(z=2)) == ["camera/000001.npy"]
    store.delete("camera/000001.npy")
    assert os.listdir(tmp_path / "camera") == []


def test_coordinates_without_a_sidecar(opened, tmp_path):
    """Asking for coordinates that were not kept is an error with the remedy, never an empty answer."""
    with pytest.raises(CoordinatesError, match="set sidecar='index'"):
        opened(root=tmp_path, sidecar="none").keys(z=2)


def test_damaged_files(opened, tmp_path):
    """A file that is short, empty or holds objects is a CannotGetObjectError; it is never unpickled."""
    store = opened(root=tmp_path)
    store.write([record(number) for number in range(3)])
    whole = (tmp_path / "camera/000000.npy").read_bytes()
    (tmp_path / "camera/000000.npy").write_bytes(whole[:-5])
    (tmp_path / "camera/000001.npy").write_bytes(b"")
    numpy.save(tmp_path / "camera/000002.npy", numpy.array([{"a": 1}], object), allow_pickle=True)
    for key in list(store.keys()):
        with pytest.raises(CannotGetObjectError, match=key):
            store.get(key)


def test_a_directory_that_disappears_is_made_again(opened, tmp_path):
    """When somebody removes the directory during a run, the next record makes it again."""
    store = opened(root=tmp_path)
    store.write([record(0)])
    store.sync()
    os.unlink(tmp_path / "camera/000000.npy")
    os.rmdir(tmp_path / "camera")
    store.write([record(1)])
    store.sync()
    assert list(store.keys()) == ["camera/000001.npy"]


def test_unwritable_roots(tmp_path):
    """A root that is a file or below one, and a path that does not end in .npy, are refused with path and remedy."""
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o755)
    for root in (tmp_path / "file", tmp_path / "file" / "deep" / "er"):
        with pytest.raises(CannotConnectToStoreError, match="file is a file; use a root that is a directory"):
            NpyStore(path=PATH, root=root).open()
    with pytest.raises(CannotConnectToStoreError, match=r"must end in '.npy'"):
        NpyStore(path="{{ seq }}.dat", root=tmp_path).open()


@pytest.fixture
def reachable():
    """An empty directory that every user can look into; those of pytest are for one only."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "place"
        place.mkdir()
        Path(name).chmod(0o755)
        yield place
        place.chmod(0o755)


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "closed"])
def test_roots_without_permission(reachable, mode):
    """A root that would have to be made where nothing may be written is refused at open with that directory."""
    reachable.chmod(mode)
    with (
        permissions_hold(),
        pytest.raises(CannotConnectToStoreError, match="may not be written to; change its permissions"),
    ):
        NpyStore(path=PATH, root=reachable / "deep" / "er").open()
    reachable.chmod(0o755)
    assert list(reachable.iterdir()) == []


def test_directory_in_the_way_is_retryable(opened, tmp_path):
    """A file where a directory has to be is reported as such, not as a record that exists."""
    (tmp_path / "camera").write_text("in the way")
    with pytest.raises(StoreError, match="must be a directory") as caught:
        opened(root=tmp_path).write([record()])
    assert not isinstance(caught.value, RecordExistsError)


def test_rubbish_of_a_dead_process_is_removed(tmp_path):
    """Temporary files of a process that is dead go when the directory is written to; those of others stay."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    writer = FileWriter()
    prefix = f".penstock-{writer._machine}"
    theirs = [tmp_path / f"{prefix}-{os.getpid()}-00000000.tmp", tmp_path / ".penstock-00000000-1-00000000.tmp"]
    rubbish = tmp_path / f"{prefix}-{dead.pid}-0123abcd.tmp"
    for path in (*theirs, rubbish, tmp_path / "users.tmp"):
        path.write_bytes(b"half")
    writer.write(tmp_path / "x.npy", [b"whole"], "error")
    assert not rubbish.exists()
    assert all(path.exists() for path in (*theirs, tmp_path / "users.tmp"))


@pytest.mark.parametrize("when_exists", ["error", "replace", "skip"])
@pytest.mark.parametrize("missing", ["unnamed files", "unnamed files and links"])
def test_file_systems_that_can_less(tmp_path, monkeypatch, missing, when_exists):
    """Without unnamed files, and without links, files are written just the same, and nothing else stays."""

    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    writer = FileWriter()
    writer._unnamed = False
    if "links" in missing:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a/x.npy"
    assert writer.write(path, [b"one", b"two"], when_exists)
    if when_exists == "error":
        with pytest.raises(FileExistsError):
            writer.write(path, [b"new"], when_exists)
    else:
        assert writer.write(path, [b"new"], when_exists) is (when_exists == "replace")
    writer.sync()
    assert path.read_bytes() == (b"new" if when_exists == "replace" else b"onetwo")
    assert os.listdir(tmp_path / "a") == ["x.npy"]


def test_a_name_that_is_taken_at_the_last_moment(tmp_path, monkeypatch):
    """A file that somebody makes between the look and the link is not overwritten."""
    path = tmp_path / "x.npy"
    path.write_bytes(b"theirs")
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    with pytest.raises(FileExistsError):
        FileWriter().write(path, [b"mine"], "error")
    assert FileWriter().write(path, [b"mine"], "skip") is False
    assert path.read_bytes() == b"theirs"
    assert FileWriter().write(path, [b"mine"], "replace") is True
    assert path.read_bytes() == b"mine"


def test_files_that_vanish_before_they_are_durable_are_no_success(opened, tmp_path):
    """What was written since the last sync and is gone at the next is a StoreError, at each sync until the end."""
    store = opened(root=tmp_path)
    store.write([record(number) for number in range(20)])
    os.unlink(tmp_path / "camera/000003.npy")
    for _ in range(2):
        with pytest.raises(StoreError, match="1 that were written since the last sync are gone") as caught:
            store.sync()
        assert not caught.value.retryable
    store.write([record(3)])  # as a source gives it again
    store.sync()


def test_deleting_by_the_store_is_no_loss(tmp_path):
    """What the store itself deletes before a sync, with its sidecar, is not missed."""
    store = NpyStore(path=PATH, root=tmp_path, sidecar="json")
    store.open()
    store.write([record(0), record(1)])
    store.delete("camera/000000.npy")
    store.sync()
    assert list(store.keys()) == ["camera/000001.npy"]
    store.close()


_WRITER = """
import sys, numpy
from penstock_npy import NpyStore
from penstock.record import Record
who, root, when_exists = sys.argv[1:]
store = NpyStore(path="{{ seq }}.npy", root=root, sidecar="json", when_exists=when_exists)
store.open()
print("ready", flush=True)
for line in sys.stdin:
    try:
        store.write([Record(numpy.full((50, 50), ord(who), "u1"), seq=int(line), metadata={"who": who})])
    except OSError:
        pass
    print("done", flush=True)
store.close()
"""


@pytest.mark.parametrize("when_exists", ["error", "skip", "replace"])
def test_an_array_and_its_sidecar_are_of_one_record(tmp_path, when_exists):
    """Two processes write the same names at the same time: of each name the pixels and the metadata are of one."""
    command = [sys.executable, "-c", _WRITER]
    writers = [
        subprocess.Popen(
            [*command, who, tmp_path, when_exists], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for who in "AB"
    ]
    try:
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        for turn in range(60):
            for writer in writers:
                writer.stdin.write(f"{turn}\n")
                writer.stdin.flush()
            for writer in writers:
                assert writer.stdout.readline() == "done\n"
    finally:
        for writer in writers:
            with writer:
                writer.stdin.close()
    reader = NpyStore(path="{{ seq }}.npy", root=tmp_path, sidecar="json")
    reader.open()
    found = [reader.get(key) for key in list(reader.keys())]
    reader.close()
    assert len(found) == 60
    assert [chr(one.data[0, 0]) for one in found] == [one.metadata["who"] for one in found]


def test_a_reader_sees_pairs_while_they_are_replaced(tmp_path):
    """A store that reads while another replaces gets the array and the metadata of one record."""
    stores = [NpyStore(path="x.npy", root=tmp_path, sidecar="json", when_exists="replace") for _ in range(2)]
    for store in stores:
        store.open()
    writer, reader = stores
    end = threading.Event()

    def write():
        number = 0
        while not end.is_set():
            number = (number + 1) % 200
            writer.write([Record(numpy.full((300, 300), number, "u1"), metadata={"number": number})])

    writer.write([Record(numpy.zeros((300, 300), "u1"), metadata={"number": 0})])
    thread = threading.Thread(target=write)
    thread.start()
    try:
        found = [reader.get("x.npy") for _ in range(200)]
    finally:
        end.set()
        thread.join()
        for store in stores:
            store.close()
    assert [int(one.data[0, 0]) for one in found] == [one.metadata["number"] for one in found]
