"""`penstock read`: the content of a store, as lines, as JSON, and one record in full."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy
import pytest

import penstock as ps


@pytest.fixture
def archive(tmp_path):
    """A directory with an archive of each kind, made by a run."""
    frames = [
        ps.Record(numpy.full((2, 3), number, "uint8"), channel="camera", seq=number, coords={"t": number},
                  time_ns=1_700_000_000_000_000_000, metadata={"gain": number})
        for number in range(3)
    ]  # fmt: skip
    camera = ps.source(frames)
    ps.Pipeline(
        camera >> ps.store("npy", path=f"{tmp_path}/npy/{{{{ seq }}}}.npy", sidecar="json"),
        camera >> ps.store("npy", path=f"{tmp_path}/bare/{{{{ seq }}}}.npy", name="bare"),
        camera >> ps.store("lmdb", path=f"{tmp_path}/index.lmdb"),
        camera >> ps.store("json", path=f"{tmp_path}/json/{{{{ seq }}}}.json"),
        camera >> ps.store("log", path=f"{tmp_path}/all.log"),
    ).run(check=True)
    return tmp_path


def read(directory, *arguments, status=0):
    command = [sys.executable, "-c", "from penstock.cli import main; main()", "read", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    return done.stdout if not status else done.stderr


@pytest.mark.parametrize("store", ["npy", "bare", "index.lmdb", "json", "all.log"])
def test_a_path_is_enough(archive, store):
    """Each record of an archive is a line, whichever store wrote it, and nothing in the archive changes."""
    before = sorted(path for path in archive.rglob("*") if "lock" not in path.name)
    assert len(read(archive, store).splitlines()) == 3
    assert len(read(archive, str(archive / store)).splitlines()) == 3  # absolute
    assert sorted(path for path in archive.rglob("*") if "lock" not in path.name) == before


def test_what_a_line_says(archive):
    """A line has key, channel, number, time, coordinates, shape and dtype."""
    line = read(archive, "index.lmdb").splitlines()[1]
    assert line == "camera/000000000001  'camera'/1  2023-11-14T22:13:20.000+00:00  t=1  2x3 uint8"
    assert "2x3 uint8" in read(archive, "bare")


def test_json(archive):
    """With --json each line is an object; --limit ends the list."""
    lines = [json.loads(line) for line in read(archive, "npy", "--json", "--limit", "2").splitlines()]
    assert [(line["key"], line["seq"], line["coords"]) for line in lines] == [
        ("0.npy", 0, {"t": 0}),
        ("1.npy", 1, {"t": 1}),
    ]
    assert lines[0]["shape"] == [2, 3]


@pytest.mark.parametrize(("store", "key"), [("npy", "2.npy"), ("index.lmdb", "camera/000000000002"), ("all.log", "2")])
def test_one_record_in_full(archive, store, key):
    """With --key a record is shown with metadata and data; with --json the data are there as lists."""
    shown = read(archive, store, "--key", key)
    assert "gain: 2" in shown
    assert "[[2 2 2]" in shown
    assert json.loads(read(archive, store, "--key", key, "--json"))["data"] == [[2, 2, 2], [2, 2, 2]]


def test_a_store_by_name(archive):
    """A store is named with its settings, too."""
    assert len(read(archive, "npy", "path=npy/{{ seq }}.npy").splitlines()) == 3
    assert len(read(archive, "lmdb", "path=index.lmdb", "readonly=true").splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing-here"], "nothing-here"),
        (["nothing-here"], "there is no file or directory 'nothing-here'"),
        (["notes.txt"], "notes.txt: no known store writes this"),
        (["npy", "pth=x"], "store 'npy': $.path: is missing; unknown key 'pth'; did you mean path?"),
        (["memory", "capacity=0"], "store 'memory': capacity=0: must be"),
        (["npy", "--key", "77.npy"], "77.npy"),
        (["null"], "cannot be read back"),
        (["all.log", "--key", "x"], "keys are 0 to 2"),
    ],
)
def test_what_cannot_be_read(archive, arguments, sentence):
    """Anything but a store, and an unreadable or missing one, is an error of one sentence."""
    (archive / "notes.txt").write_text("a file beside records is not a store of them")
    errors = read(archive, *arguments, status=1)
    assert sentence in errors
    assert len(errors.splitlines()) == 1


def test_several_stores(archive):
    """Several stores are listed one after the other, each under its name; --key shows the first that has it."""
    lines = read(archive, "bare", "json", "all.log").splitlines()
    assert [line for line in lines if line.endswith(":")] == ["bare:", "json:", "all.log:"]
    assert len(lines) == 12
    assert len(read(archive, "bare", "json", "--json").splitlines()) == 6
    assert json.loads(read(archive, "bare", "json", "--json", "--key", "1.json"))["key"] == "1.json"
    assert "no.npy" in read(archive, "bare", "json", "--key", "no.npy", status=1)
    assert "settings are for one store" in read(archive, "npy", "json", "path=x", status=2)


def test_a_stack(archive):
    """A directory of stacks is listed frame by frame, with all known fields."""
    frames = [ps.Record(numpy.full((2, 3), n, "uint8"), channel="cam", seq=n, coords={"t": n}) for n in range(3)]
    ps.Pipeline(ps.source(frames) >> ps.store("npy-stack", path=f"{archive}/stack/{{{{ channel }}}}.npy")).run(
        check=True
    )
    lines = read(archive, "stack").splitlines()
    assert len(lines) == 3
    assert all("2x3 uint8" in line and f"t={number}" in line for number, line in enumerate(lines))


def test_a_part_of_an_archive(tmp_path):
    """A directory of an archive, or one file of it, is read with the fields that its index keeps, and alone."""
    records = [
        ps.Record(numpy.full(2, n), channel=name, seq=n, time_ns=1_700_000_000_000_000_000)
        for name in ("left", "right")
        for n in range(2)
    ]
    archive = ps.store("npy", path=str(tmp_path / "all" / "{{ channel }}" / "{{ seq }}.npy"))
    ps.Pipeline(ps.source(records) >> archive).run(check=True)
    assert read(tmp_path, "all/left").splitlines() == [
        "0.npy  'left'/0  2023-11-14T22:13:20.000+00:00  2 int64",
        "1.npy  'left'/1  2023-11-14T22:13:20.000+00:00  2 int64",
    ]
    assert read(tmp_path, "all/right/1.npy") == "1.npy  'right'/1  2023-11-14T22:13:20.000+00:00  2 int64\n"
    assert json.loads(read(tmp_path, "all/left", "--key", "1.npy", "--json"))["channel"] == "left"
    assert "7.npy" in read(tmp_path, "all/left", "--key", "7.npy", status=1)
    assert len(read(tmp_path, str(tmp_path / "all" / "left")).splitlines()) == 2


def test_a_log_of_segments(tmp_path):
    """A directory of npy-log is listed as one, also in part, and none of its files is taken for a log of records."""
    frames = [ps.Record(numpy.full(2, n), channel=name, seq=n) for name in ("left", "right") for n in range(2)]
    ps.Pipeline(ps.source(frames) >> ps.store("npy-log", path=str(tmp_path / "all" / "log"))).run(check=True)
    for whole in ("all", "all/log"):
        assert [line.split()[0] for line in read(tmp_path, whole).splitlines()] == [
            "left/0", "left/1", "right/0", "right/1",
        ]  # fmt: skip
    (segment,) = (tmp_path / "all" / "log" / "left").glob("*.log")
    for part in ("all/log/left", f"all/log/left/{segment.name}"):
        assert [line.split()[0] for line in read(tmp_path, part).splitlines()] == ["0", "1"]
