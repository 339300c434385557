"""Eight processes read a file while one writes: each reads whole records, and the file does not grow without bound."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from penstock.record import Record
from penstock_lmdb import LmdbRecordStore

SECONDS = 180 if os.environ.get("PENSTOCK_FAULTS") == "full" else 3
READ = """
import sys, threading
from penstock.errors import ObjectNotFoundError
from penstock_lmdb import LmdbRecordStore

wanted, asked, answered, count = True, 0, 0, 0


def listen():
    global asked, wanted
    for _ in sys.stdin:
        asked += 1
    wanted = False


store = LmdbRecordStore(path=sys.argv[1], readonly=True)
store.open()
print("ready", flush=True)
threading.Thread(target=listen).start()
while wanted:
    begun = asked
    for key in store.keys():
        try:
            data = store.get(key).data
        except ObjectNotFoundError:
            continue
        assert data == data[:1] * len(data)
        count += 1
    with store.reading():
        assert len(list(store.keys())) == len(store)
    if begun > answered:
        answered = begun
        print("read all", flush=True)
store.close()
print(count)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_b3_eight_readers_beside_a_writer(tmp_path):
    """Readers that come and go find whole records only, and the file stays about as large as what it holds."""
    path = tmp_path / "a.lmdb"
    store = LmdbRecordStore(path=path, when_exists="replace", flush_each="sync", map_size=1 << 16)
    store.open()
    store.write([Record(b"x" * 3000, channel="c", seq=n) for n in range(100)])
    command = [sys.executable, "-c", READ, path]
    readers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    try:
        for reader in readers:
            assert reader.stdout.readline() == "ready\n"
        number, ends = 0, time.monotonic() + SECONDS
        while time.monotonic() < ends or number < 2_000:
            number += 1
            letter = b"abcdefgh"[number % 8 : number % 8 + 1]
            store.write([Record(letter * (1000 + number % 5000), channel="c", seq=number % 100)])
            if number % 50 == 0:  # however long a reader waits for a processor: no more is written meanwhile
                for reader in readers:
                    reader.stdin.write("\n")
                    reader.stdin.flush()
                for reader in readers:
                    assert reader.stdout.readline() == "read all\n"
        for reader in readers:
            reader.stdin.close()
        for reader in readers:
            assert int(reader.stdout.read()) > 0
            assert reader.wait(60) == 0
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
            reader.stdin.close()
            reader.stdout.close()
    store.close()
    # It holds 0.6 MB, and each write rewrites up to 60 kB of pages: 120 MB and more, if none were used again. A reader
    # keeps those that were replaced while it reads.
    size = path.stat().st_size
    print(f"{number} writes, {size / 1e6:.1f} MB at the end")
    assert size < 10_000_000
