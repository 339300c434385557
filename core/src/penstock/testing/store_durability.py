"""The promises of a store about crashes, full disks and other processes; each test starts real processes."""

from __future__ import annotations

import contextlib
import json
import signal
from pathlib import Path

from penstock.errors import RecordExistsError
from penstock.store import SupportsRead, SupportsTransaction
from penstock.testing.children import child, run_child
from penstock.testing.component_contract import needs
from penstock.testing.store_case import StoreCase

_STEPS = 40
"""The most processes that are killed, each a step later; if there are more steps, every second or third is tried."""


class StoreDurability(StoreCase):
    """Tests with child processes, which are killed, run out of disk, or read and write at the same time."""

    @needs(SupportsRead)
    def test_is_there_when_opened_again(self, tmp_path: Path) -> None:
        """Records are present after the store is closed and reopened, and more can be written."""
        with self.opened(tmp_path) as store:
            store.write(self.records(5))
        if self._forgot(tmp_path):
            return
        with self.opened(tmp_path) as store:
            self.assert_holds(store, self.records(5))
            store.write([self.record(5)])
            assert len(store) == 6, f"{len(store)} records, and not 6, after it was closed and reopened"
        with self.opened(tmp_path, reader=True) as store:
            self.assert_holds(store, self.records(6))

    @needs(SupportsRead)
    def test_synced_survives_kill(self, tmp_path: Path) -> None:
        """Records written before `sync` returned are complete when the process is killed right after it."""
        result = run_child(self, tmp_path, "sync_and_die", 20)
        assert result.returncode == -signal.SIGKILL, (
            f"the child ended with {result.returncode} before it could be killed; correct its error: {result.stderr}"
        )
        if self._forgot(tmp_path):
            return
        with self.opened(tmp_path) as store:
            self.assert_holds(store, self.records(20))
            assert len(store) == 20, f"{len(store)} records, and not 20: those before sync() returned must be durable"

    @needs(SupportsRead)
    def test_killed_in_mid_write(self, tmp_path: Path) -> None:
        """After a kill at any moment, synced records are present, no record is damaged, and the store can continue."""
        with child(self, tmp_path, "write_for_ever", 0) as process:
            assert process.stdout is not None, "the child has no stdout; `child` makes one"
            synced = 0
            for _ in range(4):
                line = process.stdout.readline()
                assert line, f"the child ended: {process.communicate()[1]}"
                synced = int(line)
            process.kill()
            process.wait()
        if self._forgot(tmp_path):
            return
        with self.opened(tmp_path) as store:
            self.assert_holds(store, self.records(synced))
            count = len(store)
            assert count >= synced, f"{count} records, but {synced} were synced before the kill"
            keys = [store.key_of(self.record(number)) for number in range(count + 20)]
            there = [number for number, key in enumerate(keys) if key in store]
            assert len(there) == count, (
                "it holds keys that were never written: leave out files that are not complete records"
            )
            self.assert_holds(store, [self.record(number) for number in there])
            store.write([self.record(1_000_000)])
            store.sync()
            self.assert_holds(store, [self.record(1_000_000)])

    @needs(SupportsRead)
    def test_killed_at_every_step(self, tmp_path: Path) -> None:
        """After a kill following any system call, synced records are present, the others complete or absent.

        Then all records are written again, as from a source without a commit, and all are present; with keys by arrival
        once more.
        """
        result = run_child(self, tmp_path, "die_step_by_step", _STEPS)
        assert result.returncode == 0, (
            f"the child ended with {result.returncode}, expected 0; correct its error: {result.stderr}"
        )
        if self._forgot(tmp_path):
            return
        said = json.loads(result.stdout)
        records = self.records(said["records"])
        with self.opened(tmp_path) as store:
            self.assert_holds(store, [records[number] for number in said["synced"]])
            there = [record for record in records if store.key_of(record) in store]
            assert len(store) == len(there), (
                "it holds keys that were never written: leave out files that are not complete records"
            )
            self.assert_holds(store, there)
            for record in records:
                with contextlib.suppress(RecordExistsError):
                    store.write([record])
            store.sync()
            self.assert_holds(store, records)
            again = len(there) if self.keyed_by == "arrival" else 0
            self.assert_count(store, len(records) + again, "a record that is written again is stored once")

    @needs(SupportsRead, SupportsTransaction)
    def test_positions_survive_kill(self, tmp_path: Path) -> None:
        """Positions, and the records before them, are present when the process is killed right after `sync_with`."""
        result = run_child(self, tmp_path, "sync_with_and_die", 20)
        assert result.returncode == -signal.SIGKILL, (
            f"the child ended with {result.returncode} before it could be killed; correct its error: {result.stderr}"
        )
        if self._forgot(tmp_path):
            return
        with self.opened(tmp_path) as store:
            said = dict(store.positions())
            assert said == {"source": 20}, f"positions() returned {said}: write them with the records"
            self.assert_holds(store, self.records(20))

    @needs(SupportsRead)
    def test_full_disk(self, tmp_path: Path) -> None:
        """A full disk is a retryable StoreError that leaves nothing damaged; with free space, the store works again.

        The records are those of `make_data`. A store that is declared to write no files of its own, or to forget,
        writes none.
        """
        if not self.on_disk or not self.outlives:
            with self.opened(tmp_path) as store:
                store.write(self.records(5))
                store.sync()
                files = [path for path in tmp_path.rglob("*") if path.is_file()]
            assert not files, f"it writes files ({files[0]}): set on_disk and outlives to True"
            return
        result = run_child(self, tmp_path, "fill_disk", 0)
        assert result.returncode == 0, (
            f"the child ended with {result.returncode}, expected 0; correct its error: {result.stderr}"
        )
        said = json.loads(result.stdout)
        assert said["error"] == "StoreError", f"a full disk must be a StoreError: {said}"
        assert said["retryable"], "a full disk can be retried: retryable=True"
        assert said["held_while_full"] == said["held_before"], (
            "a record that did not fit must not be stored: write to a temporary name, and rename it"
        )
        assert not said["left_behind"], f"records that did not fit left files behind: {said['left_behind']}"
        with self.opened(tmp_path) as store:
            self.assert_count(store, said["held_before"] + 1, "with free space, the record that failed can be written")
            self.assert_holds(store, self.records(said["held_before"] + 1))

    @needs(SupportsRead)
    def test_read_while_it_is_written(self, tmp_path: Path) -> None:
        """Another process can read synced records while this one writes, if so declared; else after it is closed."""
        if not self.outlives or not self.reads_live:
            with self.opened(tmp_path) as store:
                store.write(self.records(5))
            if self._forgot(tmp_path):
                return
            with child(self, tmp_path, "read_live", 0) as process:
                said, complaint = process.communicate("5\n")
                assert said.strip() == "5", (
                    f"another process found {said.strip() or 'no'} records, expected 5, after close(): {complaint}"
                )
            return
        with self.opened(tmp_path) as store:
            store.write(self.records(5))
            store.sync()
            with child(self, tmp_path, "read_live", 0) as process:
                assert process.stdout is not None, "the child has no stdout; `child` makes one"
                assert process.stdin is not None, "the child has no stdin; `child` makes one"
                for count in (5, 8, 300):
                    store.write([self.record(number) for number in range(len(store), count)])
                    store.sync()
                    process.stdin.write(f"{count}\n")
                    process.stdin.flush()
                    line = process.stdout.readline()
                    assert line.strip() == str(count), (
                        f"another process found {line.strip() or 'no'} records, expected {count}: sync() must make "
                        f"them visible to make_reader(), or set reads_live to False; {line or process.communicate()[1]}"
                    )
                process.stdin.close()
                code = process.wait()
                assert code == 0, f"the reading process ended with {code}, expected 0: close() must not fail there"

    @needs(SupportsRead)
    def test_several_writers(self, tmp_path: Path) -> None:
        """Processes that write at the same time, if so declared, or else in turn, lose no record of each other."""
        if self.several_writers:
            with child(self, tmp_path, "write_channel", 1) as one, child(self, tmp_path, "write_channel", 2) as two:
                for process in (one, two):
                    code = process.wait()
                    assert code == 0, (
                        f"a writer ended with {code}, expected 0; set several_writers to False if that is by design: "
                        f"{process.communicate()[1]}"
                    )
        else:
            for number in (1, 2):
                result = run_child(self, tmp_path, "write_channel", number)
                assert result.returncode == 0, (
                    f"writer {number} ended with {result.returncode}, expected 0; correct its error: {result.stderr}"
                )
        if self._forgot(tmp_path):
            return
        with self.opened(tmp_path) as store:
            for number in (1, 2):
                self.assert_holds(store, self.records(100, channel=f"writer {number}"))
            assert len(store) == 200, f"{len(store)} of 200 records: writers must not overwrite each other"

    def _forgot(self, tmp_path: Path) -> bool:
        """Return whether the store forgets its content; then it must be empty at first, and work."""
        if self.outlives:
            return False
        with self.opened(tmp_path) as store:
            assert len(store) == 0, "it holds what an earlier one wrote: set outlives to True"
            store.write(self.records(3))
            self.assert_holds(store, self.records(3))
        return True
