"""The built-in components keep every promise of their contracts."""

from __future__ import annotations

import numpy as np
import pytest

from penstock import DataCoordinates, Record
from penstock.builtin.choose import Filter, Rate, Sample, Split
from penstock.builtin.decode import JsonDecoder, RecordDecoder
from penstock.builtin.files import FilesSource
from penstock.builtin.gather import Align, Batch
from penstock.builtin.iterable import IterableSource
from penstock.builtin.letters import DeadLetterSource, LogStore
from penstock.builtin.memory import MemoryStore, NullStore
from penstock.codec import encode_bytes
from penstock.recordlog import RecordLog
from penstock.testing import DecoderContract, ProcessorContract, SourceContract, StoreContract


class TestIterableSource(SourceContract):
    def make_source(self, tmp_path):
        return IterableSource(items=range(self.count), channel="numbers")

    def make_unopenable(self, tmp_path):
        return IterableSource(items=7)


RECORDS = tuple(Record(n, channel="ab"[n % 2], seq=n // 2) for n in range(SourceContract.count))


class TestIterableSourceOfRecords(SourceContract):
    def make_source(self, tmp_path):
        return IterableSource(items=RECORDS)

    picklable = False  # records are equal only if they are the same object


class TestRecordDecoder(DecoderContract):
    def make_decoder(self):
        return RecordDecoder()

    def make_packets(self):
        inside = [Record(np.full((2, 3), n), seq=n, metadata={"n": n}) for n in range(5)]
        return [Record(encode_bytes(each), channel="camera", seq=each.seq) for each in inside]

    def make_bad_packet(self):
        return Record(b"PSREC and then nonsense", channel="camera", seq=5)


class TestJsonDecoder(DecoderContract):
    def make_decoder(self):
        return JsonDecoder()

    def make_packets(self):
        return [Record(b'{"n": %d, "text": ["a", null]}' % n, channel="camera", seq=n) for n in range(5)]

    def make_bad_packet(self):
        return Record(b'{"n": ', channel="camera", seq=5)


class TestFilesSource(SourceContract):
    @pytest.fixture(autouse=True)
    def _files(self, tmp_path):
        (tmp_path / "files").mkdir()
        for number in range(self.count):
            (tmp_path / "files" / f"{number:03d}.raw").write_bytes(b"content %d" % number)

    def make_source(self, tmp_path):
        return FilesSource(directory=tmp_path / "files", pattern="*.raw")

    def make_unopenable(self, tmp_path):
        return FilesSource(directory=tmp_path / "nothing")


class TestFilesSourceThatRemembers(TestFilesSource):
    remembers_commit = True

    def make_source(self, tmp_path):
        return FilesSource(directory=tmp_path / "files", state=tmp_path / "state.json")

    def make_unopenable(self, tmp_path):
        (tmp_path / "damaged.json").write_text('{"done": ')
        return FilesSource(directory=tmp_path / "files", state=tmp_path / "damaged.json")

    def test_position_and_seek(self, tmp_path):
        """A source with a state file continues from a given position as well."""
        super().test_position_and_seek(tmp_path)


class TestDeadLetterSource(SourceContract):
    @pytest.fixture(autouse=True)
    def _letters(self, tmp_path):
        failed = [Record(b"failed", channel="camera", seq=number) for number in range(self.count)]
        log = RecordLog(tmp_path / "letters" / "run" / "records.log")
        log.open()
        log.append([Record(None, metadata={"node": "archive"}, parent=record) for record in failed])
        log.close()

    def make_source(self, tmp_path):
        return DeadLetterSource(directory=tmp_path / "letters")

    def make_unopenable(self, tmp_path):
        return DeadLetterSource(directory=tmp_path / "nothing")


def arrays(*, channels="a", count=7):
    return [
        Record(
            np.arange(6).reshape(2, 3) + number,
            channel=channels[number % len(channels)],
            seq=number // len(channels),
            time_ns=number // len(channels) * 1_000_000_000,
            coords=DataCoordinates(time=number),
            metadata={"good": number % 2 == 0},
        )
        for number in range(count)
    ]


class TestBatch(ProcessorContract):
    def make_processor(self):
        return Batch(size=3, timeout_s=1000.0)

    def make_records(self):
        return arrays(channels="ab")


class TestBatchOfStacks(ProcessorContract):
    def make_processor(self):
        return Batch(size=2, by_channel=True, stack=True)

    def make_records(self):
        return arrays(channels="ab")


class TestAlign(ProcessorContract):
    def make_processor(self):
        return Align(channels=("a", "b"), tolerance_s=0.1, deadline_s=1000.0, missing="none")

    def make_records(self):
        return arrays(channels="ab")


class TestFilter(ProcessorContract):
    def make_processor(self):
        return Filter(channels=("a*",), metadata={"good": True})

    def make_records(self):
        return arrays(channels="ab")


class TestSample(ProcessorContract):
    def make_processor(self):
        return Sample(every=3)

    def make_records(self):
        return arrays(channels="ab")


class TestRate(ProcessorContract):
    def make_processor(self):
        return Rate(per_s=0.5)

    def make_records(self):
        return arrays()


class TestSplit(ProcessorContract):
    def make_processor(self):
        return Split(axis="row")

    def make_records(self):
        return arrays()


class TestMemoryStore(StoreContract):
    outlives = False

    def make_store(self, tmp_path):
        return MemoryStore()

    def make_bad_record(self):
        return None


class TestMemoryStoreWithAKey(StoreContract):
    outlives = False

    def make_store(self, tmp_path):
        return MemoryStore(key="{{ channel }}#{{ seq }}", when_exists="replace")

    def make_bad_record(self):
        return None


class TestNullStore(StoreContract):
    on_disk = False

    def make_store(self, tmp_path):
        return NullStore()

    def make_bad_record(self):
        return None


class TestLogStore(StoreContract):
    def make_store(self, tmp_path):
        return LogStore(path=tmp_path / "records.log")

    def make_unopenable(self, tmp_path):
        (tmp_path / "other.log").write_bytes(b"this is not a log of records")
        return LogStore(path=tmp_path / "other.log")
