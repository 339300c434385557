"""What a store promises about crashes, full disks and other processes; each test starts real ones."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from penstock.store import SupportsRead
from penstock.testing.children import child, run_child
from penstock.testing.store_case import StoreCase


class StoreDurability(StoreCase):
    """Tests with child processes, which are killed, run out of disk, or read and write at the same time."""

    def test_is_there_when_opened_again(self, tmp_path: Path) -> None:
        """What was written is there when the store is closed and opened again, and more can be written."""
        self._need_memory(tmp_path)
        with self.opened(tmp_path) as store:
            store.write(self.records(5))
        with self.opened(tmp_path) as store:
            self.assert_holds(store, self.records(5))
            store.write([self.record(5)])
            assert len(store) == 6
        with self.opened(tmp_path, reader=True) as store:
            self.assert_holds(store, self.records(6))

    def test_synced_survives_kill(self, tmp_path: Path) -> None:
        """What was written before `sync` returned is there, whole, when the process is killed right after it."""
        self._need_memory(tmp_path)
        result = run_child(self, tmp_path, "sync_and_die", 20)
        assert result.returncode == -signal.SIGKILL, result.stderr
        with self.opened(tmp_path) as store:
            self.assert_holds(store, self.records(20))
            assert len(store) == 20

    def test_killed_in_mid_write(self, tmp_path: Path) -> None:
        """Killed at any moment: what was synced is there, nothing is torn, and the store goes on."""
        self._need_memory(tmp_path)
        with child(self, tmp_path, "write_for_ever", 0) as process:
            assert process.stdout is not None
            synced = 0
            for _ in range(4):
                line = process.stdout.readline()
                assert line, f"the child ended: {process.communicate()[1]}"
                synced = int(line)
            process.kill()
            process.wait()
        with self.opened(tmp_path) as store:
            self.assert_holds(store, self.records(synced))
            count = len(store)
            assert count >= synced
            keys = [store.key_of(self.record(number)) for number in range(count + 20)]
            there = [number for number, key in enumerate(keys) if key in store]
            assert len(there) == count, "it holds keys that nobody wrote"
            self.assert_holds(store, [self.record(number) for number in there])
            store.write([self.record(1_000_000)])
            store.sync()
            self.assert_holds(store, [self.record(1_000_000)])

    def test_full_disk(self, tmp_path: Path) -> None:
        """A full disk is a StoreError that can be retried and leaves nothing torn; with room again, it works."""
        self._need_memory(tmp_path)
        if not self.on_disk or sys.platform == "win32":
            pytest.skip("writes no files of its own here")
        result = run_child(self, tmp_path, "fill_disk", 0)
        assert result.returncode == 0, result.stderr
        said = json.loads(result.stdout)
        assert said["error"] == "StoreError", f"a full disk must be a StoreError: {said}"
        assert said["retryable"], "a full disk can be retried: retryable=True"
        assert said["held_while_full"] == 1, "what did not fit must not be there"
        assert not said["left_behind"], f"what did not fit left files behind: {said['left_behind']}"
        with self.opened(tmp_path) as store:
            assert len(store) == 2
            self.assert_holds(store, [self.record(0)])

    def test_read_while_it_is_written(self, tmp_path: Path) -> None:
        """Another process sees what was synced while this one goes on, if that is claimed."""
        self._need_memory(tmp_path)
        if not self.reads_live:
            pytest.skip("does not claim to be readable while it is written")
        with self.opened(tmp_path) as store:
            store.write(self.records(5))
            store.sync()
            with child(self, tmp_path, "read_live", 0) as process:
                assert process.stdout is not None
                assert process.stdin is not None
                for count in (5, 8, 300):
                    store.write([self.record(number) for number in range(len(store), count)])
                    store.sync()
                    process.stdin.write(f"{count}\n")
                    process.stdin.flush()
                    line = process.stdout.readline()
                    assert line.strip() == str(count), line or process.communicate()[1]
                process.stdin.close()
                assert process.wait() == 0

    def test_several_writers(self, tmp_path: Path) -> None:
        """Processes that write at the same time lose nothing of each other, if that is claimed."""
        self._need_memory(tmp_path)
        if not self.several_writers:
            pytest.skip("does not claim to take several writers")
        with child(self, tmp_path, "write_channel", 1) as one, child(self, tmp_path, "write_channel", 2) as two:
            for process in (one, two):
                assert process.wait() == 0, process.communicate()[1]
        with self.opened(tmp_path) as store:
            for number in (1, 2):
                self.assert_holds(store, self.records(100, channel=f"writer {number}"))
            assert len(store) == 200

    def _need_memory(self, tmp_path: Path) -> None:
        if not self.outlives:
            pytest.skip("forgets when it is closed")
        self.need(self.make_store(tmp_path), SupportsRead)
