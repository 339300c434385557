"""`penstock lmdb`: info, verify, compact and export do what their help says."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import lmdb
import numpy
import pytest

from penstock.record import Record
from penstock_lmdb import LmdbRecordStore, LMDBStore


def penstock(*arguments, status=0):
    """Run the command line as a user does; return what it printed."""
    command = [sys.executable, "-c", "from penstock.cli import main; main()", "lmdb", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert bool(done.returncode) == bool(status), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def path(tmp_path):
    """A file with arrays, text and bytes, of which much was deleted."""
    store = LmdbRecordStore(path=tmp_path / "a.lmdb")
    store.open()
    store.write([Record(numpy.arange(3) * n, channel="../c", seq=n, time_ns=n, coords={"t": n}) for n in range(3)])
    store.write([Record("text", channel="t"), Record(b"bytes", channel="b", metadata={"x": numpy.float32(1)})])
    store.write([Record(numpy.zeros(100_000), channel="large", seq=n) for n in range(20)])
    for key in list(store.query(prefix="large")):
        store.delete(key)
    store.sync_with({"source": 5})
    store.close()
    return tmp_path / "a.lmdb"


def test_info(path):
    """`info` says how many records there are, of which times, and which positions are kept."""
    assert "records      5" in penstock("info", path)
    facts = json.loads(penstock("info", path, "--json"))
    assert (facts["records"], facts["layout"], facts["positions"]) == (5, 2, {"source": 5})
    assert facts["first time"].startswith("1970-01-01")
    assert facts["used bytes"] < facts["size bytes"]


def test_verify(path):
    """`verify` finds nothing in a sound file; a damaged record, or page, is named, and the exit status is 1."""
    assert "5 records, no problems" in penstock("verify", path)
    with lmdb.open(str(path), subdir=False, max_dbs=20) as env, env.begin(write=True) as transaction:
        transaction.put(b"t/000000000000", b"noise", db=env.open_db(b"records", txn=transaction))
    assert "'t/000000000000' is not a record" in penstock("verify", path, status=1)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "only in part" in penstock("verify", path, status=1)
    assert json.loads(penstock("verify", path, "--json", status=1))["problems"]


def test_compact(path, tmp_path):
    """`compact` makes the file smaller, and keeps all that it holds; --to leaves it as it is."""
    before = path.stat().st_size
    penstock("compact", path, "--to", tmp_path / "copy.lmdb")
    assert path.stat().st_size == before
    penstock("compact", path)
    assert path.stat().st_size < before / 10
    for each in (path, tmp_path / "copy.lmdb"):
        assert "5 records, no problems" in penstock("verify", each)
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith(".")) == []


def test_compact_only_alone(path):
    """A file that another process has open is not replaced."""
    code = (
        "import sys; from penstock_lmdb import LmdbRecordStore\n"
        "s = LmdbRecordStore(path=sys.argv[1]); s.open(); print('ready', flush=True); sys.stdin.read(); s.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "ready\n"
        assert "another process has it open" in penstock("compact", path, status=1)
        other.stdin.close()
        assert other.wait(60) == 0


def test_export(path, tmp_path):
    """`export` writes arrays as npy and npz, and everything as json; a key chooses no path outside of the target."""
    assert "left out 't/000000000000': str is not an array" in penstock("export", path, tmp_path / "arrays", status=1)
    names = sorted(file.name for file in (tmp_path / "arrays").iterdir())
    assert len(names) == 3
    assert numpy.load(tmp_path / "arrays" / names[2]).tolist() == [0, 2, 4]
    penstock("export", path, tmp_path / "all.npz", "--prefix", "../c/")
    with numpy.load(tmp_path / "all.npz") as arrays:
        assert sorted(each.tolist() for each in arrays.values()) == [[0, 0, 0], [0, 1, 2], [0, 2, 4]]
    penstock("export", path, tmp_path / "all.json")
    found = {each["key"]: each for each in json.loads((tmp_path / "all.json").read_text())}
    assert found["../c/000000000001"]["data"] == [0, 1, 2]
    assert found["../c/000000000001"]["coords"] == {"t": 1}
    assert found["t/000000000000"]["data"] == "text"
    assert found["b/000000000000"]["data"] == {"base64": "Ynl0ZXM="}
    assert "is there already" in penstock("export", path, tmp_path / "all.json", status=1)


def test_export_of_objects(tmp_path):
    """Objects of LMDBStore are exported, also those whose ids are bytes; what was pickled is left out."""
    with LMDBStore(tmp_path, "run", pickle=True) as store:
        store.put(numpy.arange(2), "a", b"\xff/..")
        store.put(ValueError("x"), "pickled", "p")
    assert "left out 'p'" in penstock("export", tmp_path / "run", tmp_path / "out.npz", status=1)
    with numpy.load(tmp_path / "out.npz") as arrays:
        assert [each.tolist() for each in arrays.values()] == [[0, 1]]


def test_export_writes_json_that_others_read(tmp_path):
    """Numbers that JSON does not have are written as text, in arrays too; the text "NaN" stays text."""
    with LMDBStore(tmp_path, "run") as store:
        store.put({"x": float("nan"), "y": numpy.array([1.0, -numpy.inf]), "z": "NaN", "w": 2.5}, "a", "a")
    penstock("export", tmp_path / "run", tmp_path / "out.json")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads((tmp_path / "out.json").read_text(), parse_constant=refuse)
    assert found[0]["data"] == {"x": "NaN", "y": [1.0, "-Infinity"], "z": "NaN", "w": 2.5}


def test_export_names_some_of_what_it_leaves_out(tmp_path):
    """Of very many records that cannot be exported, the first are named and the others counted."""
    with LMDBStore(tmp_path, "run") as store:
        for number in range(1000):
            store.put("text", "n", f"{number:04d}")
    said = penstock("export", tmp_path / "run", tmp_path / "out.npz", status=1)
    assert said.count("is not an array") == 20
    assert "left out '0019'" in said
    assert "left out 980 more" in said


@pytest.mark.parametrize("command", ["info", "verify", "compact", "export"])
def test_what_is_no_file_is_refused(tmp_path, command):
    """Each command refuses a named pipe at once, and a file copied in part by name, with the exit status 1."""
    os.mkfifo(tmp_path / "pipe.lmdb")
    with LMDBStore(tmp_path, "run") as store:
        store.put(numpy.zeros(100_000), "a")
    content = (tmp_path / "run" / "data.mdb").read_bytes()
    (tmp_path / "cut.lmdb").write_bytes(content[: len(content) // 2])
    more = [tmp_path / "out"] if command == "export" else []
    said = penstock(command, tmp_path / "pipe.lmdb", *more, status=1)
    assert "not a regular file" in said or "neither a file nor a directory" in said
    assert "it was copied or written only in part" in penstock(command, tmp_path / "cut.lmdb", *more, status=1)
