"""What a child process of the tests of faults runs: `python child.py ACTION DIRECTORY [ARGUMENT]`.

It tells its parent by lines on stdout how far it is, writes the report of its run to `report.json`, and exits as the
report says.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from pathlib import Path

import penstock as ps


def say(*words):
    print(*words, flush=True)


def end(report, directory):
    (directory / "report.json").write_text(report.to_json())
    (directory / "report.txt").write_text(str(report))
    sys.exit(report.exit_code)


def archive(directory, _):
    """Keep the bytes of files as arrays and as they are in three stores, with checkpoints in quick succession."""
    import numpy

    started = threading.Event()

    def as_array(record):
        if not started.is_set():
            started.set()
            say("at work")
        return record.replace(data=numpy.frombuffer(record.data, "uint8"))

    source = ps.source("files", directory=directory / "in", state=directory / "state.json")
    arrays = source >> ps.processor(as_array)
    pipeline = ps.Pipeline(
        arrays
        >> ps.edge(capacity=20)  # little waits on the way, so that checkpoints come often
        >> ps.store("npy", path=str(directory / "npy" / "{{ metadata.path }}.npy"), when_exists="skip", name="npy"),
        arrays
        >> ps.edge(capacity=20)
        >> ps.store(
            "lmdb", path=directory / "lmdb", key="{{ metadata.path }}", when_exists="replace", flush_each="sync"
        ),
        source >> ps.edge(capacity=20) >> ps.store("log", path=directory / "all.log"),
        checkpoint_every_s=0.02,
        dead_letters=directory / "dead",
    )
    end(pipeline.run(), directory)


def derive(directory, when_exists):
    """Make several records of each file, and batches of those, in stores that know records by their names."""
    started = threading.Event()

    def halves(record):
        if not started.is_set():
            started.set()
            say("at work")
        middle = len(record.data) // 2
        return [record.data[:middle], record.data[middle:]]

    files = ps.source("files", directory=directory / "in", state=directory / "state.json", channel="files")
    parts = files >> ps.processor(halves, name="halves", workers=2)
    settings = {"key": "{{ channel }}/{{ seq }}", "when_exists": when_exists, "flush_each": "sync"}
    pipeline = ps.Pipeline(
        parts >> ps.edge(capacity=20) >> ps.store("lmdb", path=directory / "parts", name="parts", **settings),
        parts
        >> ps.processor("batch", size=4)
        >> ps.processor(lambda record: record.replace(data=b"".join(record.data)))
        >> ps.edge(capacity=5)
        >> ps.store("lmdb", path=directory / "batches", name="batches", **settings),
        checkpoint_every_s=0.02,
        dead_letters=directory / "dead",
    )
    end(pipeline.run(), directory)


class Flood:
    """Give records as fast as they are taken, for ever; remember what was committed."""

    def __init__(self, directory, data=b"x" * 1000):
        self.directory = directory
        self.data = data
        self.next = 0

    def open(self):
        pass

    def read(self, max_records, timeout_s):
        records = [ps.Record(self.data, channel="flood", seq=n) for n in range(self.next, self.next + max_records)]
        self.next += max_records
        return records

    def position(self):
        return self.next

    def commit(self, position):
        (self.directory / "committed").write_text(str(position))

    def close(self):
        pass


def flood(directory, _):
    """Store records as fast as it goes until a signal comes."""

    class Told(Flood):
        def commit(self, position):
            super().commit(position)
            say("at work")

    pipeline = ps.Pipeline(
        ps.source(Told(directory))
        >> ps.edge(capacity=5000)
        >> ps.processor(lambda record: record)
        >> ps.store("log", path=directory / "all.log", name="log"),
        checkpoint_every_s=0.05,
        dead_letters=directory / "dead",
    )
    end(pipeline.run(), directory)


def clogged(directory, _):
    """Have a full edge before a processor that blocks for ever, until a second signal comes."""

    def clog(record):
        say("at work")
        threading.Event().wait()

    pipeline = ps.Pipeline(
        ps.source(Flood(directory)) >> ps.edge(capacity=500) >> ps.processor(clog, name="clog"),
        dead_letters=directory / "dead",
    )
    run = pipeline.run()
    end(run, directory)


def resident_kib():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def many(directory, count):
    """Lead so many small records through two lanes and print the resident memory on the way."""
    count = int(count)
    made = 0

    class Small:
        def open(self):
            pass

        def read(self, max_records, timeout_s):
            nonlocal made
            if made >= count:
                raise ps.errors.EndOfSource("done")
            records = [ps.Record(n, channel="c", seq=n) for n in range(made, min(count, made + max_records))]
            made += len(records)
            return records

        def close(self):
            pass

    seen = 0

    def look(record):
        nonlocal seen
        seen += 1
        if seen % (count // 10) == 0:
            gc.collect()
            say(resident_kib())
        return record

    started = time.monotonic()
    report = ps.Pipeline(
        ps.source(Small()) >> look >> ps.edge(capacity=1024) >> ps.processor(lambda record: record) >> ps.store("null"),
        dead_letters=directory / "dead",
    ).run()
    say("seconds", round(time.monotonic() - started, 1))
    end(report, directory)


ACTIONS = {action.__name__: action for action in (archive, derive, flood, clogged, many)}

if __name__ == "__main__":
    import penstock.errors

    ACTIONS[sys.argv[1]](Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
