"""What the source npy-files gives of archives and of foreign files, in what order, and what it leaves alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys

import numpy
import pytest

import penstock as ps
from penstock.coords import DataCoordinates
from penstock.errors import SourceError
from penstock.record import Record
from penstock.testing.equality import assert_same_record
from penstock_npy import JsonStore, NpyFilesSource, NpyStackStore, NpyStore

from .replayed import NPY, all_of, archive, by_name


@pytest.mark.parametrize(
    "make",
    [
        lambda root: NpyStore(path=NPY, root=root),
        lambda root: NpyStore(path=NPY, root=root, sidecar="json"),
        lambda root: NpyStackStore(path="{{ channel }}.npy", root=root),
        lambda root: JsonStore(path="{{ channel }}.jsonl", root=root, lines=True),
    ],
    ids=["index", "sidecar", "stack", "lines"],
)
@pytest.mark.parametrize("is_copied", [False, True])
def test_b1_an_archive_comes_again_as_it_was_written(opened, tmp_path, make, is_copied):
    """Data, channel, seq, time, coordinates, metadata and discontinuity are those of the records, also after a copy."""
    store = make(tmp_path / "a")
    changes = {"data": {"x": [1, 2]}} if isinstance(store, JsonStore) else {}
    records = archive(store, **changes)
    if is_copied:
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        shutil.rmtree(tmp_path / "a")
    found, refused = all_of(opened(tmp_path / ("b" if is_copied else "a")))
    assert not refused
    for one, other in zip(by_name(records), by_name(found), strict=True):
        assert_same_record(one, other)


def test_a_part_of_an_archive_has_the_index_of_the_whole(opened, tmp_path):
    """A glob for one directory of an archive finds what the index of the root keeps."""
    records = archive(NpyStore(path=NPY, root=tmp_path))
    found, _ = all_of(opened(f"{tmp_path}/cam0/*.npy"))
    for one, other in zip([each for each in records if each.channel == "cam0"], found, strict=True):
        assert_same_record(one, other)


def test_a_replay_into_the_same_template_writes_the_same_archive(tmp_path):
    """An archive that is replayed into another has the same files and the same lines in its index."""
    archive(NpyStore(path=NPY, root=tmp_path / "a"))
    source = ps.source("npy-files", path=f"{tmp_path}/a/{NPY}")
    ps.Pipeline(source >> ps.store("npy", path=NPY, root=tmp_path / "b")).run(check=True)

    def lines(root):
        return [
            {key: value for key, value in json.loads(text).items() if key != "file"}
            for file in sorted((root / ".index").iterdir())
            for text in file.read_text().splitlines()
        ]

    def files(root):
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*.npy")}

    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_sub_arrays_of_one_record_have_numbers_of_their_own(opened, tmp_path):
    """The files of a record that was split are records of different numbers, the same each time."""
    path = "{{ seq }}-{{ _split_index }}.npy"
    archive(NpyStore(path=f"{{{{ channel }}}}-{path}", root=tmp_path, split=True), 2, metadata={})
    found, _ = all_of(opened(tmp_path))
    assert [record.metadata["_split_index"] for record in found] == [0, 1, 0, 1]
    assert len({(record.channel, record.seq) for record in found}) == 4
    assert [record.seq for record in all_of(opened(tmp_path))[0]] == [record.seq for record in found]


def test_a_name_tells_what_the_template_put_into_it(opened, tmp_path):
    """Of files without an index, the template's fields are those of the record, and "/" and "." match themselves."""
    (tmp_path / "left").mkdir()
    for name in ("left/0007_z-3_dark.npy", "left/0008_z12_dark.npy", "left/0009.npy", "left/0007_z-3_darkXnpy"):
        with (tmp_path / name).open("wb") as file:
            numpy.save(file, numpy.zeros(2))
    path = f"{tmp_path}/{{{{ channel }}}}/{{{{ '%04d' % seq }}}}_z{{{{ coords.z }}}}_{{{{ kind }}}}.npy"
    found, refused = all_of(opened(path))
    assert [(record.channel, record.seq, record.coords) for record in found] == [
        ("left", 7, DataCoordinates(z=-3)),
        ("left", 8, DataCoordinates(z=12)),
    ]
    assert found[0].metadata == {"path": "left/0007_z-3_dark.npy", "kind": "dark"}
    assert found[0].time_ns == (tmp_path / "left/0007_z-3_dark.npy").stat().st_mtime_ns
    assert not refused


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.npy", ["a1.npy", "a2.npy"]),
        ("**/*.npy", ["a1.npy", "a2.npy", "b/a3.npy", "b/c/a4.npy"]),
        ("*/*.npy", ["b/a3.npy"]),
        ("b/**/a[3-4].npy", ["b/a3.npy", "b/c/a4.npy"]),
        ("a[!1].npy", ["a2.npy"]),
        ("a?.np?", ["a1.npy", "a2.npy"]),
        ("", ["a1.npy", "a2.npy", "b/a3.npy", "b/c/a4.npy"]),
        ("a1.npy", ["a1.npy"]),
    ],
)
def test_globs(opened, tmp_path, glob, expected):
    """A glob, a directory and a file mean what they mean to a shell, in directories with "[" in their name, too."""
    root = tmp_path / "run[1]"
    (root / "b/c").mkdir(parents=True)
    for name in ("a1.npy", "a2.npy", "b/a3.npy", "b/c/a4.npy", ".a5.npy", "a6.npy.tmp", "a7.txt"):
        with (root / name).open("wb") as file:
            numpy.save(file, numpy.zeros(2))
    above = str(root).replace("[", "[[]") if set(glob) & set("*?[") else str(root)
    source = opened(os.path.join(above, glob))
    found, _ = all_of(source)
    names = [os.path.basename(record.metadata["path"]) for record in found]
    assert names == [os.path.basename(name) for name in expected]


def test_order_of_names_is_as_people_count(opened, tmp_path):
    """Numbers in names are compared as numbers, directory by directory; each file is numbered in this order."""
    for name in ("f10.npy", "f9.npy", "f1.npy", "a/f2.npy", "a-b/f1.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        numpy.save(tmp_path / name, numpy.zeros(1))
    found, _ = all_of(opened(tmp_path))
    assert [record.metadata["path"] for record in found] == ["a/f2.npy", "a-b/f1.npy", "f1.npy", "f9.npy", "f10.npy"]
    assert [record.seq for record in found] == [0, 1, 2, 3, 4]
    assert {record.channel for record in found} == {tmp_path.name}


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("time_ns", [0, 1, 2, 3, 4]),
        ("coords.z", [4, 3, 2, 1, 0]),
        ("z", [4, 3, 2, 1, 0]),
        ("seq", [0, 1, 2, 3, 4]),
        ("name", [0, 2, 4, 1, 3]),
        ("mtime", [3, 0, 1, 2, 4]),
    ],
)
def test_order_by_what_is_known(opened, tmp_path, order_by, expected):
    """Files come by a coordinate, a time or a number that the index keeps, or by the time of the file."""
    archive(NpyStore(path=NPY, root=tmp_path))
    for n in range(5):
        time_ns = 10**18 + (n - 100 if n == 3 else n)
        os.utime(tmp_path / f"cam{n % 2}/{n // 2:06}.npy", ns=(time_ns, time_ns))
    found, refused = all_of(opened(tmp_path, order_by=order_by))
    assert [int(record.data[0, 0]) for record in found] == expected
    assert not refused


def test_a_file_without_the_key_is_refused_by_name(opened, tmp_path):
    """A file that lacks what the order needs is refused, not put somewhere; the others come."""
    archive(NpyStore(path=NPY, root=tmp_path), 3)
    numpy.save(tmp_path / "foreign.npy", numpy.zeros(1))
    found, refused = all_of(opened(tmp_path, order_by="coords.z"))
    assert len(found) == 3
    (message,) = refused
    assert "foreign.npy" in message
    assert "order_by='coords.z' is not known" in message


def test_numbers_stay_when_files_come_between(opened, tmp_path):
    """With a state, a file keeps its number in later runs, wherever newer files sort, committed or not."""
    state = tmp_path / "state.jsonl"
    for name in ("b", "d", "f"):
        numpy.save(tmp_path / f"{name}.npy", numpy.zeros(1))
    source = opened(tmp_path, state=state)
    source.read(1, 1.0)
    source.commit(source.position())
    source.read(1, 1.0)  # not committed
    source.close()
    for name in ("a", "e"):
        numpy.save(tmp_path / f"{name}.npy", numpy.zeros(1))
    found, _ = all_of(opened(tmp_path, state=state))
    numbers = {record.metadata["path"]: record.seq for record in found}
    assert numbers == {"d.npy": 1, "f.npy": 2, "a.npy": 3, "e.npy": 4}


def test_without_a_state_a_position_names_what_was_given(opened, tmp_path):
    """A position that a store keeps leads to every file that was not given, though newer ones sort before it."""
    for name in ("b", "d"):
        numpy.save(tmp_path / f"{name}.npy", numpy.zeros(1))
    source = opened(tmp_path)
    source.read(1, 1.0)
    position = json.loads(json.dumps(source.position()))
    numpy.save(tmp_path / "a.npy", numpy.zeros(1))
    again = opened(tmp_path)
    again.seek(position)
    assert {record.metadata["path"] for record in all_of(again)[0]} == {"a.npy", "d.npy"}


def test_added_lines_come_in_the_next_run(opened, tmp_path):
    """Of a file of lines that has grown since it was committed, the new lines come, with the next numbers."""
    file, state = tmp_path / "a.jsonl", tmp_path / "state"
    file.write_text("1\n2\n\n")
    for expected in ([(0, 1), (1, 2)], [], [(3, 3)]):
        source = opened(tmp_path, state=state)
        found, _ = all_of(source)
        assert [(record.seq, record.data) for record in found] == expected
        source.commit(source.position())
        source.close()
        if not expected:
            with file.open("a") as opened_file:
                opened_file.write("3\n")


def test_torn_state_goes_on(opened, tmp_path):
    """A state whose last line was never finished is taken up to there; one of something else is refused."""
    state = tmp_path / "state"
    for name in "ab":
        numpy.save(tmp_path / f"{name}.npy", numpy.zeros(1))
    source = opened(tmp_path, state=state)
    source.read(1, 1.0)
    source.commit(source.position())
    source.close()
    with state.open("a") as file:
        file.write('{"next": 2, "pa')
    again = opened(tmp_path, state=state)
    assert [record.metadata["path"] for record in all_of(again)[0]] == ["b.npy"]
    with pytest.raises(SourceError, match="another source uses this state"):
        opened(tmp_path, state=state)
    again.close()
    state.write_text('{"next": 2}\n')
    with pytest.raises(SourceError, match="not the state of a source of files"):
        opened(tmp_path, state=state)


def test_a_state_does_not_grow_without_end(opened, tmp_path):
    """A state that is mostly superfluous is rewritten; committed positions and numbers stay."""
    state = tmp_path / "state"
    (tmp_path / "in").mkdir()
    for name in "ab":
        numpy.save(tmp_path / f"in/{name}.npy", numpy.zeros(1))
    source = opened(tmp_path / "in", state=state)
    source.read(1, 1.0)
    source.commit(source.position())
    source.close()
    text = state.read_text()
    state.write_text(text + text.splitlines()[-1].join(["", "\n"]) * 3000)
    found, _ = all_of(opened(tmp_path / "in", state=state))
    assert [record.seq for record in found] == [1]
    assert len(state.read_text().splitlines()) < 10


def test_merged_metadata_are_metadata_again(opened, tmp_path):
    """What the json store merged into its files is taken apart again; a file without any is refused."""
    store = JsonStore(path="{{ seq }}.json", root=tmp_path, merge_metadata=True)
    store.open()
    store.write([Record({"a": 1}, seq=1, metadata={"b": 2}), Record(7, seq=2, metadata={"b": 3})])
    store.close()
    (tmp_path / "3.json").write_text("{}")
    found, refused = all_of(opened(f"{tmp_path}/{{{{ seq }}}}.json", merge_metadata=True))
    assert [(record.seq, record.data, record.metadata["b"]) for record in found] == [(1, {"a": 1}, 2), (2, 7, 3)]
    assert "merge_metadata=False" in refused[0]


REPLAY = """
import sys
import penstock as ps
root = sys.argv[1]
source = ps.source("npy-files", path=root + "/in/*.npy", state=root + "/state")
shown = source >> ps.processor(lambda record: (print(record.seq, flush=True), record)[1])
flow = shown >> ps.store("npy", path=root + "/out/{{ seq }}.npy", when_exists="skip")
ps.Pipeline(flow, checkpoint_every_s=0.01).run(check=True)
"""
ROUNDS = 100 if os.environ.get("PENSTOCK_FAULTS") == "full" else 4


@pytest.mark.timeout(60 * ROUNDS)
def test_killed_at_any_moment(tmp_path):
    """After kill -9 a replay goes on where it was committed: each file arrives, under one number, though more come."""
    chance = random.Random(0)
    (tmp_path / "in").mkdir()
    count = 0
    for turn in range(ROUNDS + 1):
        for _ in range(200):
            numpy.save(tmp_path / f"in/{chance.randrange(10**12)}-{count}.npy", numpy.full(3, count))
            count += 1
        command = [sys.executable, "-c", REPLAY, tmp_path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            for _ in range(chance.randrange(1, 150)):
                child.stdout.readline()
            if turn < ROUNDS:
                child.kill()
            child.stdout.read()
    assert child.returncode == 0
    found = sorted(int(numpy.load(path)[0]) for path in (tmp_path / "out").glob("*.npy"))
    assert found == list(range(count))


def test_a_pipeline_with_it_is_plain_data(tmp_path):
    """A pipeline that replays files goes into TOML and back."""
    flow = ps.source("npy-files", path=f"{tmp_path}/{NPY}", order_by="coords.z", state=tmp_path / "s") >> ps.store(
        "null"
    )
    pipeline = ps.Pipeline(flow)
    assert ps.Pipeline.from_toml(pipeline.to_toml()) == pipeline


def test_wrong_settings_are_named(tmp_path):
    """A missing directory and an invalid template are rejected by name."""
    with pytest.raises(SourceError, match="nowhere is not a directory"):
        NpyFilesSource(path=tmp_path / "nowhere").open()
    with pytest.raises(SourceError, match="in is not a directory"):
        NpyFilesSource(path=f"{tmp_path}/in/*.npy").open()
