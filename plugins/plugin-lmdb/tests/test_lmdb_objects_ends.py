"""LMDBStore: what a sync, a commit, or the end of the process makes durable."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from penstock_lmdb import (
    LMDBStore,
)

from .object_stores import NEVER, child, held


def _syncs(code, path):
    """Return how often a process asks the kernel to sync between two marks that it writes."""
    start = f"from penstock_lmdb import LMDBStore\nimport os\nstore = LMDBStore({str(path)!r}, 'x', commit_freq=1e6)\n"
    code = start + code
    trace = path / "trace"
    calls = "trace=fsync,fdatasync,msync,sync_file_range,write"
    subprocess.run(["strace", "-f", "-e", calls, "-o", trace, sys.executable, "-c", code], check=True, timeout=120)
    between = trace.read_text().split('"begin"')[1].split('"end"')[0]
    return sum(between.count(f"{call}(") for call in ("fsync", "fdatasync", "msync"))


@pytest.mark.skipif(not shutil.which("strace"), reason="counts system calls with strace")
def test_b3_flush_this_immediately_reaches_the_disk(tmp_path):
    """A put that is buffered makes no sync call; each with flush_this_immediately makes one at least."""
    begin, end = "os.write(2, b'begin')\n", "os.write(2, b'end')\nstore.close()"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert _syncs(f"{begin}for n in range(5): store.put(n, 'n')\n{end}", tmp_path / "a") == 0
    immediately = f"{begin}for n in range(5): store.put(n, 'n', flush_this_immediately=True)\n{end}"
    assert _syncs(immediately, tmp_path / "b") >= 5


def test_b3_commit_freq_bounds_what_a_kill_loses(tmp_path):
    """After `commit_freq` seconds what was put is seen by others, and survives kill -9; `commit` does not wait."""
    with child(
        "store = LMDBStore(sys.argv[1], commit_freq=0.05)\nstore.put(1, 'in time')\nprint('ready', flush=True)\n"
        "sys.stdin.readline()\nstore.commit_freq = store._buffer._commit_freq = 1e6\nstore._buffer.commit()\n"
        "store.put(2, 'committed'); store.commit(); print('ready', flush=True); sys.stdin.readline()",
        tmp_path,
    ) as process:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        path = next(tmp_path.glob("lmdb_*"))
        deadline = threading.Event()
        for _ in range(400):
            if "in time" in held(path):
                break
            deadline.wait(0.05)
        assert held(path) == {"in time": 1}
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        process.kill()
    assert held(path) == {"in time": 1, "committed": 2}


ENDS = {
    "exit": ("", 0),
    "exception": ("raise ValueError('the end')", 1),
    "sys.exit": ("sys.exit(3)", 3),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)", 143),
    "SIGINT": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(30)", -signal.SIGINT),
    "SIGTERM in a put": (
        "import threading\n"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "while True: store.put(bytes(1000), 'more')", 143,
    ),
    "a handler that was there": ("os.kill(os.getpid(), signal.SIGTERM)", 7),
    "a handler of SIGINT that was there": ("os.kill(os.getpid(), signal.SIGINT)", 7),
    "a handler set afterwards": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9)); os.kill(os.getpid(), signal.SIGTERM)", 9,
    ),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_b3_an_end_loses_nothing(tmp_path, end):
    """A normal exit, an exception, SIGINT and SIGTERM lose nothing that was put, and end the process as before."""
    code, status = ENDS[end]
    which = "SIGINT" if "signal.SIGINT" in code else "SIGTERM"
    before = f"signal.signal(signal.{which}, lambda *_: os._exit(7))\n" if status == 7 else ""
    done = child(
        f"{before}store = LMDBStore(sys.argv[1], commit_freq=1e6)\nfor n in range(50): store.put(n, f'n{{n}}')\n{code}",
        tmp_path,
    )
    _, errors = done.communicate(timeout=60)
    assert done.returncode == status, errors
    found = held(next(tmp_path.glob("lmdb_*")))
    assert {f"n{n}": n for n in range(50)}.items() <= {k: v for k, v in found.items() if k != "more"}.items()


def test_b3_handlers_are_put_back(tmp_path):
    """The handler that a program has set stays its own after the last store was closed; threads set none."""
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        own = signal.getsignal(signal.SIGTERM)
        with LMDBStore(tmp_path, "one", commit_freq=NEVER) as store, LMDBStore(tmp_path, "two"):
            store.put(1, "x")
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == [1]
            assert store._buffer.pending() == {}
        assert signal.getsignal(signal.SIGTERM) is own
        thread = threading.Thread(target=lambda: LMDBStore(tmp_path, "three").close())
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signals_that_are_ignored_stay_so(tmp_path):
    """A signal that the process ignores is left alone, so that what it starts ignores it, too."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with LMDBStore(tmp_path, "one") as store:
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
            store.put(1, "x")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_b3_load_reads_while_a_writer_lives(make, tmp_path):
    """Another process opens it with load=True, sees what was committed since, and cannot change it."""
    store = make()
    store.put(1, "a")
    store.commit()
    reader = child(
        "store = LMDBStore(sys.argv[1], 'run', load=True)\n"
        "for line in sys.stdin: print(store.get(line.strip()), flush=True)\n"
        "try: store.put(1, 'x')\n"
        "except OSError as error: print(error)\n"
        "store.close()",
        tmp_path,
    )
    with reader:
        for number in range(3):
            store.put(number, f"n{number}", flush_this_immediately=True)
            reader.stdin.write(f"n{number}\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == f"{number}\n"
        reader.stdin.close()
        assert "read only" in reader.stdout.read()
        assert reader.wait(20) == 0, reader.stderr.read()


def test_ids_of_several_writers_differ(tmp_path, monkeypatch):
    """Objects put in one nanosecond by stores of two processes have ids of their own; each store's are in order."""
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000)
    with LMDBStore(tmp_path, "one") as one, LMDBStore(tmp_path, "two") as two:
        ids = [[store.put(n, "n") for n in range(20)] for store in (one, two)]
    assert not set(ids[0]) & set(ids[1])
    assert ids == [sorted(ids[0]), sorted(ids[1])]
