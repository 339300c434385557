"""`penstock recover`: a lost or torn index, torn stacks and logs."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

from penstock.coords import DataCoordinates
from penstock.errors import ConfigError
from penstock.record import Record
from penstock_npy import NpyLogStore, NpyStackStore, NpyStore
from penstock_npy.names import NamePattern
from penstock_npy.recover import recover

PATH = "{{ channel }}/{{ '%04d' % seq }}-{{ coords.z }}.npy"


def write(root, numbers, **settings):
    store = NpyStore(**{"path": PATH, "root": root, **settings})
    store.open()
    store.write([
        Record(np.full(3, n), channel="lab/left", seq=n, time_ns=n, coords=DataCoordinates(z=n % 2), metadata={"n": n})
        for n in numbers
    ])  # fmt: skip
    store.close()


def held(root, **settings):
    store = NpyStore(**{"path": PATH, "root": root, **settings})
    store.open()
    records = [store.get(key) for key in list(store.keys())]
    odd = list(store.keys(z=1))
    store.close()
    return records, odd


def test_a_lost_index_is_made_again_from_names(tmp_path):
    """Channel, seq and coordinates come back out of the names, if the template is given; arrays are as they were."""
    write(tmp_path, range(4))
    shutil.rmtree(tmp_path / ".index")
    found = recover(tmp_path, path=PATH)
    assert (found.files, len(found.added), found.damaged) == (4, 4, {})
    records, odd = held(tmp_path)
    assert [(r.channel, r.seq, dict(r.coords), int(r.data[0])) for r in records] == [
        ("lab/left", n, {"z": n % 2}, n) for n in range(4)
    ]
    assert odd == ["lab/left/0001-1.npy", "lab/left/0003-1.npy"]
    assert recover(tmp_path).added == []


def test_a_torn_index_loses_only_what_was_torn(tmp_path):
    """Lines that can be read stay with all they say; the template is known from the index itself."""
    write(tmp_path, range(4))
    (index,) = (tmp_path / ".index").iterdir()
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join([*lines[:2], b"garbage\n", *lines[3:-1], lines[-1][:40]]))
    found = recover(tmp_path)
    assert found.torn_lines == 2
    assert sorted(found.added) == ["lab/left/0001-1.npy", "lab/left/0003-1.npy"]
    records, _ = held(tmp_path)
    assert [r.seq for r in records] == [0, 1, 2, 3]
    assert [r.metadata for r in records] == [{"n": 0}, {}, {"n": 2}, {}]


def test_sidecars_become_lines(tmp_path):
    """An archive with a file beside each array gets an index that says the same."""
    write(tmp_path, range(3), sidecar="json")
    recover(tmp_path)
    for path in tmp_path.rglob("*.npy.json"):
        path.unlink()
    records, _ = held(tmp_path)
    assert [(r.channel, r.seq, r.time_ns, r.metadata) for r in records] == [
        ("lab/left", n, n, {"n": n}) for n in range(3)
    ]


def test_without_a_template_names_are_numbered(tmp_path):
    """Files of which nothing is known get numbers that stay the same, and the time when they were written."""
    np.save(tmp_path / "a.npy", np.zeros(2))
    recover(tmp_path)
    first, _ = held(tmp_path)
    shutil.rmtree(tmp_path / ".index")
    recover(tmp_path)
    second, _ = held(tmp_path)
    assert first[0].seq == second[0].seq
    assert first[0].time_ns == (tmp_path / "a.npy").stat().st_mtime_ns


def test_damaged_files_are_named(tmp_path):
    """Truncated, empty and foreign files are named and get no line; the command exits with 1."""
    write(tmp_path, range(2))
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "foreign.npy").write_bytes(b"x" * 500)
    whole = (tmp_path / "lab/left/0001-1.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(whole[:-1])
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    command = [sys.executable, "-m", "penstock", "recover", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert {line.split(":")[0] for line in done.stderr.splitlines()} == {
        "empty.npy", "foreign.npy", "short.npy", "objects.npy",
    }  # fmt: skip
    assert "6 files, 0 of them added" in done.stdout


def test_torn_ends_of_stacks_and_logs(tmp_path):
    """What a killed process had not finished is cut off, and said."""
    stack = NpyStackStore(path="camera.npy", root=tmp_path)
    log = NpyLogStore(path=tmp_path / "log")
    for store in (stack, log):
        store.open()
        store.write([Record(np.full(100, n), channel="camera", seq=n) for n in range(3)])
        store.close()
    with (tmp_path / "camera.npy").open("ab") as file:
        file.write(b"half of a frame")
    with (tmp_path / "log/camera/000000000000.log").open("ab") as file:
        file.write(b"half of an entry")
    found = recover(tmp_path)
    assert found.cut == {"camera.npy": 15, "log/camera/000000000000.log": 16}
    assert not found.damaged
    assert recover(tmp_path).cut == {}
    assert np.load(tmp_path / "camera.npy").shape == (3, 100)


def test_no_such_directory(tmp_path):
    """A directory that is not there is an error that says what to name."""
    with pytest.raises(ConfigError, match="use the root"):
        recover(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("template", "name", "fields"),
    [
        ("{{ channel }}/{{ '%06d' % seq }}.npy", "a/b/000007.npy", {"channel": "a/b", "seq": 7}),
        ("{{ seq }}.npy", "-3.npy", {"seq": -3}),
        ("{{ seq }}.npy", "x.npy", None),
        ("{{ run }}-{{ coords.z }}.npy", "r1-12.npy", {"metadata": {"run": "r1"}, "coords": {"z": 12}}),
        ("{{ coords.c }}.npy", "007.npy", {"coords": {"c": "007"}}),
        ("{{ time|strftime('%Y') }}/{{ seq }}.npy", "2026/5.npy", {"seq": 5}),
        ("a.b/{{ seq }}.npy", "aXb/5.npy", None),
        ("{{ '%02d' % seq }}{{ '%03d' % coords.z }}.npy", "12003.npy", {"seq": 12, "coords": {"z": 3}}),
        ("{{ '%04d' % seq }}.npy", "-003.npy", {"seq": -3}),
        ("{{ '%04d' % seq }}.npy", "003.npy", None),
        ("{{ '%4d' % seq }}.npy", "   3.npy", {"seq": 3}),
        ("{{ '%03d'|format(seq) }}.npy", "007.npy", {"seq": 7}),
        ("{{ coords['z'] }}-{{ metadata[\"run\"] }}.npy", "5-b.npy", {"coords": {"z": 5}, "metadata": {"run": "b"}}),
        ("{{ '%d' % coords['z'] }}.npy", "-5.npy", {"coords": {"z": -5}}),
        ("{{ channel }}/{{ channel }}-{{ seq }}.npy", "l/l-5.npy", {"channel": "l", "seq": 5}),
    ],
)
def test_names_tell_what_templates_put_into_them(template, name, fields):
    """Names are read back by the template that made them; what does not match is None."""
    found = NamePattern(template).read(name)
    assert found == (None if fields is None else {"coords": {}, "metadata": {}, **fields})
