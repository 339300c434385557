"""Each promise of a source is broken by one source here, and the test of that promise finds it."""

from __future__ import annotations

import json
import queue
import threading
import time
from pathlib import Path

import attrs
import pytest

from penstock.errors import CodecError, EndOfSource, SourceError
from penstock.record import Record
from penstock.testing import SourceContract, source_contract

BROKEN: list = []
"""Each as (test that has to find it, case, what the test raises): filled by `breaks`."""


def breaks(*tests, raises=AssertionError, **claims):
    """Note that a source breaks the promises of these tests; `claims` are attributes of its case."""

    def decorate(source):
        case = type(f"Case{source.__name__}", (LinesCase,), {"source": source, **claims})
        BROKEN.extend(pytest.param(test, case, raises, id=f"{source.__name__} {test}") for test in tests)
        return source

    return decorate


@attrs.define(kw_only=True, slots=False)
class Lines:
    """A source that keeps its promises: the lines of a file. The broken ones differ in one thing."""

    gives = "bytes"
    path: Path
    _lines: list | None = attrs.field(default=None, init=False, eq=False)
    _next: int = attrs.field(default=0, init=False, eq=False)

    def open(self):
        try:
            self._lines = self.path.read_bytes().splitlines()
        except OSError as error:
            raise SourceError(f"{self.path}: {error}") from error
        memory = self.memory()
        self._next = json.loads(memory.read_text()) if memory.exists() else 0

    def read(self, max_records, timeout_s):
        numbers = range(self._next, min(len(self._lines), self._next + max_records))
        if not numbers and max_records:
            raise EndOfSource("no more lines")
        self._next = numbers.stop
        return [self.record(number) for number in numbers]

    def record(self, number):
        return Record(self._lines[number], channel="lines", seq=number)

    def close(self):
        self._lines = None

    def memory(self):
        return self.path.with_suffix(".committed")

    def position(self):
        return self._next

    def commit(self, position):
        self.memory().write_text(json.dumps(position))

    def seek(self, position):
        self._next = position

    def lag(self):
        return len(self._lines) - self._next

    def rejected(self):
        return 0

    def lost_upstream(self):
        return {}


class LinesCase(SourceContract):
    source = Lines
    remembers_commit = True

    def make_source(self, tmp_path):
        self.make_file(tmp_path)
        return self.source(path=tmp_path / "lines.txt")

    def make_file(self, tmp_path):
        path = tmp_path / "lines.txt"
        if not path.exists():
            path.write_text("".join(f"line {number}\n" for number in range(self.count)))

    def make_unopenable(self, tmp_path):
        return self.source(path=tmp_path / "nothing")

    def test_building_does_nothing(self, tmp_path):
        """With the file there already."""
        self.make_file(tmp_path)
        super().test_building_does_nothing(tmp_path)


class TestLines(LinesCase):
    """The sound source passes everything, so that what fails below fails for its fault."""


class TestLinesThatForget(LinesCase):
    """So does one that is declared to repeat by its position only."""

    remembers_commit = False


@breaks("test_names_each_record")
class OneNameForTwo(Lines):
    """Numbers two lines alike."""

    def record(self, number):
        return super().record(number).replace(seq=number - number % 2)


@breaks("test_building_does_nothing")
@attrs.define(kw_only=True, slots=False)
class ReadsEarly(Lines):
    def __attrs_post_init__(self):
        self.memory().write_text("0")


@breaks("test_settings_are_data")
@attrs.define(kw_only=True, slots=False)
class CountsInASetting(Lines):
    _made: list = attrs.field(factory=list)

    def __attrs_post_init__(self):
        self._made = object()


@breaks("test_settings_leave_the_nodes_names_alone")
@attrs.define(kw_only=True, slots=False)
class HasAName(Lines):
    name: str = "lines"


@breaks("test_kinds_of_data_are_known")
class GivesLines(Lines):
    gives = "lines"


@breaks("test_its_records_can_be_written_and_read", "test_gives_all_its_records")
class TellsTheTimeAsAFloat(Lines):
    def record(self, number):
        return super().record(number).replace(time_ns=time.time() * 1e9)


@breaks("test_its_records_can_be_written_and_read", raises=CodecError)
class KeepsAHandleInItsMetadata(Lines):
    def record(self, number):
        return super().record(number).replace(metadata={"file": object()})


@breaks("test_what_it_gave_stays_as_it_was")
class FillsOneBuffer(Lines):
    buffer = bytearray(8)

    def record(self, number):
        self.buffer[0] = number
        return super().record(number).replace(data=self.buffer)


@breaks("test_settings_do_not_change")
class ChangesItsPath(Lines):
    def open(self):
        super().open()
        self.path = self.path.with_suffix("")


@breaks("test_open_that_fails", raises=TypeError)
class RaisesNoErrorOfOurs(Lines):
    def open(self):
        try:
            super().open()
        except SourceError as error:
            raise TypeError("cannot") from error


@breaks("test_open_that_fails", raises=AttributeError)
class ClosesWhatIsOpen(Lines):
    def close(self):
        if self._lines is None and not self.path.exists():
            self._handle.close()


@breaks("test_close_without_open", "test_closing_twice", raises=AttributeError)
class ClosesOnce(Lines):
    def close(self):
        self._lines.clear()
        self._lines = None


@breaks("test_has_the_methods_of_a_source")
class CannotRead(Lines):
    read = None


@breaks("test_gives_all_its_records")
class LosesTheLast(Lines):
    def open(self):
        super().open()
        self._lines.pop()


@breaks("test_counts_within_each_channel")
class CountsByTwo(Lines):
    def record(self, number):
        return super().record(number).replace(seq=2 * number)


@breaks("test_gives_what_it_says")
class GivesText(Lines):
    def record(self, number):
        return super().record(number).replace(data=str(number))


@breaks("test_gives_no_more_than_asked_for")
class GivesTooMuch(Lines):
    def read(self, max_records, timeout_s):
        return super().read(max_records + 1, timeout_s)


@breaks("test_end")
class EndsOnce(Lines):
    _has_ended = False

    def read(self, max_records, timeout_s):
        if self._has_ended:
            return [self.record(0)]
        try:
            return super().read(max_records, timeout_s)
        except EndOfSource:
            self._has_ended = True
            raise


@breaks("test_end", raises=pytest.fail.Exception)
class NeverEnds(Lines):
    def read(self, max_records, timeout_s):
        try:
            return super().read(max_records, timeout_s)
        except EndOfSource:
            return ()


@breaks("test_end", raises=EndOfSource, ends=False)
class EndsThoughItIsSaidNotTo(Lines):
    pass


@breaks("test_waits_no_longer_than_told", slack_s=0.0)
class WaitsTooLong(Lines):
    def read(self, max_records, timeout_s):
        self._clock = time.monotonic() + timeout_s + 0.01
        while time.monotonic() < self._clock:
            pass
        return super().read(max_records, timeout_s)


@breaks("test_returns_at_once_what_it_has")
class WaitsForAll(Lines):
    def read(self, max_records, timeout_s):
        found = super().read(max_records, timeout_s)
        if len(found) < max_records:
            threading.Event().wait(timeout_s)
        return found


@breaks("test_position_and_seek")
class ForgetsWhereItStood(Lines):
    def seek(self, position):
        self._next = position and position + 1


@breaks("test_position_and_seek")
class NumbersAnew(Lines):
    _first = 0

    def seek(self, position):
        self._next = self._first = position

    def record(self, number):
        return super().record(number).replace(seq=number - self._first)


@breaks("test_opened_again")
class GoesOnByItself(Lines):
    _is_new = True

    def open(self):
        if self._is_new:
            super().open()
        self._is_new = False

    def close(self):
        pass

    def seek(self, position):
        self._next = max(self._next, position)


@breaks("test_commit")
class CommitsWhereItStands(Lines):
    def commit(self, position):
        super().commit(self._next)


@breaks("test_commit", remembers_commit=False)
class DropsWhatIsCommittedAndMore(Lines):
    def commit(self, position):
        self.path.write_text("gone\n" * len(self._lines))


@breaks("test_position_is_plain")
class GivesAnObjectAsPosition(Lines):
    def position(self):
        return Path(str(self._next))


@breaks("test_wake_ends_a_read_that_waits")
class SleepsOn(Lines):
    def wake(self):
        pass

    def read(self, max_records, timeout_s):
        if self._next >= len(self._lines):
            threading.Event().wait(timeout_s)
            return ()
        return super().read(max_records, timeout_s)


@breaks("test_numbers_about_itself")
class KnowsItsLagInOneThread(Lines):
    def lag(self):
        return -1 if threading.current_thread() is not threading.main_thread() else 0


@breaks("test_numbers_about_itself")
class CannotSayWhatItRejected(Lines):
    def rejected(self):
        return None


@attrs.define(kw_only=True, slots=False)
class Inbox:
    """A sound source that others call with data, as a driver does: when it is full, the caller waits."""

    capacity: int = 100
    _waiting: queue.Queue = attrs.field(factory=queue.Queue, init=False, eq=False)
    _next: int = attrs.field(default=0, init=False, eq=False)

    def open(self):
        self._waiting, self._next = queue.Queue(self.capacity), 0

    def put(self, data):
        self._waiting.put(data)

    def read(self, max_records, timeout_s):
        try:
            data = self._waiting.get(timeout=timeout_s) if timeout_s else self._waiting.get_nowait()
        except queue.Empty:
            return ()
        self._next += 1
        return [Record(data, channel="inbox", seq=self._next - 1)]

    def close(self):
        pass


class InboxCase(SourceContract):
    source = Inbox
    ends = repeats = False
    picklable = False  # the queue, which others put into, stays in its process

    def make_source(self, tmp_path):
        self.made = self.source()
        return self.made

    def feed(self, tmp_path):
        for number in range(self.count):
            self.made.put(b"%d" % number)


class TestInbox(InboxCase):
    """A source with a bounded queue passes everything."""


class DropsWhatIsTooMuch(Inbox):
    _dropped = 0

    def put(self, data):
        try:
            self._waiting.put_nowait(data)
        except queue.Full:
            self._dropped += 1

    def dropped_upstream(self):
        return {"inbox": self._dropped}


class TestInboxThatDrops(InboxCase):
    """So does one that drops and counts."""

    source = DropsWhatIsTooMuch


class TakesInWithoutBound(Inbox):
    def open(self):
        self._waiting, self._next = queue.Queue(), 0


class CaseTakesInWithoutBound(InboxCase):
    source = TakesInWithoutBound


class TestTakesInWithoutBoundByDesign(CaseTakesInWithoutBound):
    """A source that declares that it keeps all by design passes."""

    most_unread = None


BROKEN.append(
    pytest.param(
        "test_takes_in_only_so_much_while_nobody_reads", CaseTakesInWithoutBound, AssertionError, id="no bound"
    )
)


@pytest.mark.parametrize(("test", "case", "raises"), BROKEN)
def test_broken_sources_are_found(failures, monkeypatch, test, case, raises):
    """A source that breaks a promise fails the test of that promise."""
    monkeypatch.setattr(source_contract, "_PATIENCE_S", 0.5)
    found = failures(case(), test)
    assert found, f"{test} does not find what is wrong with {case.source.__name__}"
    assert [error for error in found if isinstance(error, raises)], found


def test_every_test_can_fail(untried):
    """For each test of the contract there is a source that fails it."""
    assert untried(SourceContract, BROKEN) == []
