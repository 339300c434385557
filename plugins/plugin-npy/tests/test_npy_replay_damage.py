"""What the source npy-files refuses: damaged, foreign and vanished files, each by itself."""

from __future__ import annotations

import io
import os
import shutil
import struct
import tempfile
import zipfile

import numpy
import pytest

import penstock as ps
from penstock.testing import permissions_hold

from .replayed import all_of


def bad_header(path):
    """Write a .npy whose header claims 8 TiB."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }".ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header)


def bad_npz(path):
    """Write a .npz whose array claims 8 TiB."""
    bad_header(path)
    content = path.read_bytes()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", content)


def objects(path):
    numpy.save(path, numpy.array([{}], dtype=object), allow_pickle=True)


def objects_npz(path):
    with path.open("wb") as file:
        numpy.savez(file, a=numpy.array([{}], dtype=object))


def cut(path):
    file = io.BytesIO()
    numpy.save(file, numpy.zeros(100))
    path.write_bytes(file.getvalue()[:500])


def cut_npz(path):
    file = io.BytesIO()
    numpy.savez(file, a=numpy.zeros(100))
    path.write_bytes(file.getvalue()[:500])


def flipped_npz(path):
    """Write a .npz one of whose compressed bytes is another."""
    file = io.BytesIO()
    numpy.savez_compressed(file, a=numpy.arange(1000))
    content = bytearray(file.getvalue())
    content[200] ^= 0xFF
    path.write_bytes(content)


DAMAGED = {
    "header.npy": bad_header,
    "cut.npy": cut,
    "empty.npy": lambda path: path.write_bytes(b""),
    "foreign.npy": lambda path: path.write_bytes(b"hello" * 100),
    "objects.npy": objects,
    "trailing.npy": lambda path: (cut(path), path.write_bytes(path.read_bytes() + b"\0" * 9999)),
    "header.npz": bad_npz,
    "objects.npz": objects_npz,
    "cut.npz": cut_npz,
    "flipped.npz": flipped_npz,
    "empty.npz": lambda path: path.write_bytes(b""),
    "cut.json": lambda path: path.write_text('{"a": [1,'),
    "deep.json": lambda path: path.write_text("[" * 200_000),
    "latin.json": lambda path: path.write_bytes(b'"\xff"'),
    "digits.json": lambda path: path.write_text("9" * 5000),
    "empty.json": lambda path: path.write_bytes(b""),
    "cut.jsonl": lambda path: path.write_text('{"a": 1'),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused_one_by_one(opened, tmp_path, name):
    """A file that is not what its name says is refused with its name and a reason; its neighbours come."""
    DAMAGED[name](tmp_path / name)
    for other in ("0.npy", "z.npy"):
        numpy.save(tmp_path / other, numpy.zeros(1))
    found, refused = all_of(opened(tmp_path, settle_s=0.0))
    assert [record.metadata["path"] for record in found] == ["0.npy", "z.npy"]
    (message,) = refused
    assert f"{name}: cannot be read" in message


def test_damaged_lines_cost_only_themselves(opened, tmp_path):
    """Of a file of lines, those that are not JSON are refused one by one, and blank ones are left out."""
    (tmp_path / "a.jsonl").write_text('1\n{"a":\n\n"x"\nnothing\n[2]\n')
    found, refused = all_of(opened(tmp_path))
    assert [(record.seq, record.data) for record in found] == [(0, 1), (3, "x"), (5, [2])]
    assert ["line 2" in refused[0], "line 5" in refused[1]] == [True, True]


def test_a_run_dead_letters_damaged_files(tmp_path):
    """A run says which files were damaged, stores the others, and commits, so that the next run has nothing to do."""
    (tmp_path / "in").mkdir()
    cut(tmp_path / "in/b.npy")
    for name in "ac":
        numpy.save(tmp_path / f"in/{name}.npy", numpy.zeros(1))
    settings = {"path": f"{tmp_path}/in", "settle_s": 0.0, "state": tmp_path / "state"}
    for expected in (2, 0):
        flow = ps.source("npy-files", **settings) >> ps.store("npy", path=f"{tmp_path}/out{expected}/{{{{ seq }}}}.npy")
        report = ps.Pipeline(flow, dead_letters=tmp_path / "dead").run()
        assert len(list((tmp_path / f"out{expected}").glob("*.npy"))) == expected
        assert ("b.npy: cannot be read" in str(report)) == bool(expected)


def test_an_unreadable_file_is_refused(opened):
    """A file that this user may not read is refused, and its neighbours come."""
    with tempfile.TemporaryDirectory() as directory:  # one that another user may look into
        os.chmod(directory, 0o755)
        for name in "ab":
            numpy.save(f"{directory}/{name}.npy", numpy.zeros(1))
        os.chmod(f"{directory}/a.npy", 0)
        with permissions_hold():
            found, refused = all_of(opened(directory))
    assert len(found) == len(refused) == 1


def test_a_file_that_vanishes_is_lost_upstream(opened, tmp_path):
    """A file that is listed and gone before it is read counts as lost; the others keep their numbers."""
    for name in "abc":
        numpy.save(tmp_path / f"{name}.npy", numpy.zeros(1))
    source = opened(tmp_path)
    (tmp_path / "b.npy").unlink()
    found, refused = all_of(source)
    assert [record.seq for record in found] == [0, 2]
    assert source.lost_upstream() == {tmp_path.name: 1}
    assert not refused


def test_a_directory_that_goes_is_an_error_that_may_be_tried_again(opened, tmp_path):
    """A root that vanishes is an error of the source, not the end and not the loss of its files."""
    (tmp_path / "in").mkdir()
    numpy.save(tmp_path / "in/a.npy", numpy.zeros(1))
    source = opened(tmp_path / "in")
    shutil.rmtree(tmp_path / "in")
    with pytest.raises(OSError, match=r"in/a\.npy"):
        source.read(1, 1.0)
    assert not source.lost_upstream()


def test_a_file_that_stays_cut_is_refused_after_a_while(opened, tmp_path):
    """A file that is not whole and does not change any more is damaged; the source ends, and does not wait for ever."""
    cut(tmp_path / "a.npy")
    found, refused = all_of(opened(tmp_path, settle_s=0.1))
    assert not found
    assert "a.npy: cannot be read" in refused[0]
