"""Components that work in processes of their own: a child process imports them from here."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import attrs

from penstock.component import Remark
from penstock.errors import EndOfSource, StoreError
from penstock.record import Record


def double(record):
    return record.replace(data=record.data * 2)


def odd(record):
    return record if record.data % 2 else None


def twice(record):
    return [record, record.replace(data=-record.data)]


def triple(coords, data, metadata):
    return coords, data * 3, {**metadata, "process": os.getpid()}


def whoami(record):
    return record.replace(metadata={**record.metadata, "process": os.getpid()})


def negative_by(record):
    return record.replace(data=255 - record.data, metadata={**record.metadata, "first": os.getpid()})


def half(record):
    if record.data == 5:
        raise ZeroDivisionError("five cannot be halved")
    return record.replace(data=record.data / 2)


class HouseError(Exception):
    """An error that nobody but this module knows."""


def strange(record):
    raise HouseError(f"strange {record.data}")


def deaf(record, here):
    """Stay in C code that holds the interpreter: no thread of this process can act, and no signal handler."""
    import ctypes

    Path(here).write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)
    return record


def leave(record):
    raise SystemExit("I am off")


def unsendable(record):
    return record.replace(data=threading_lock()) if record.data == 3 else record


def threading_lock():
    import threading

    return threading.Lock()


def to_negative(record):
    record.data[...] = 255 - record.data
    return record


to_negative.in_place = True


@attrs.define(kw_only=True)
class Deadly:
    """Kill the process over one record: always, or once (a file remembers)."""

    number: int
    once: Path | None = None

    def __call__(self, record):
        if record.data == self.number and not (self.once and self.once.exists()):
            if self.once:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return record.replace(data=record.data + 1000)


@attrs.define(kw_only=True)
class Held:
    """Wait in one record until a file is there, and say so by another."""

    number: int
    here: Path
    until: Path

    def __call__(self, record):
        if record.data == self.number:
            self.here.write_text(str(os.getpid()))
            while not self.until.exists():
                time.sleep(0.005)  # another process makes the file
        return record


@attrs.define(kw_only=True)
class Refuses:
    """Cannot be opened."""

    def open(self):
        raise OSError("the door is locked")

    def close(self):
        pass

    def __call__(self, record):
        return record


@attrs.define(kw_only=True)
class Pairs:
    """Give two records together, and name the one that waits."""

    _waiting: list = attrs.field(factory=list, init=False)

    def __call__(self, record):
        self._waiting.append(record)
        if len(self._waiting) < 2:
            return None
        first, second = self._waiting
        self._waiting.clear()
        return second.replace(data=(first.data, second.data))

    def held(self):
        return list(self._waiting)

    def flush(self):
        left, self._waiting = self._waiting, []
        return [record.replace(data=(record.data, None)) for record in left]


@attrs.define(kw_only=True)
class Lines:
    """A store that gathers in memory, and writes lines to a file when it is synced: a death costs what it has."""

    path: Path
    bad: int = -1
    die_at: int = -1
    _gathered: list = attrs.field(factory=list, init=False)

    def open(self):
        self.path.touch()

    def write(self, records):
        if any(record.data == self.die_at for record in records) and not self.path.with_suffix(".died").exists():
            self.path.with_suffix(".died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        failed = [(record, ValueError("bad")) for record in records if record.data == self.bad]
        self._gathered += [record.data for record in records if record.data != self.bad]
        if failed:
            raise StoreError("some are bad", failed=failed, retryable=False)

    def sync(self):
        with self.path.open("a") as file:
            file.writelines(f"{data}\n" for data in self._gathered)
        self._gathered.clear()

    def close(self):
        if self._gathered:
            self.sync()


@attrs.define(kw_only=True)
class Counted:
    """Give numbers; remember in a file what was committed. Dies once at one of them, if told to."""

    path: Path
    count: int = 100
    die_at: int = -1
    seeks: bool = True
    _next: int = attrs.field(default=0, init=False)

    def open(self):
        self._next = int(self.path.read_text()) if self.path.exists() else 0

    def read(self, max_records, timeout_s):
        if self._next >= self.count:
            raise EndOfSource("all were given")
        upto = min(self.count, self._next + min(max_records, 10))
        died = self.path.with_suffix(".died")
        if self._next <= self.die_at < upto and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        records = [Record(n, channel="count", seq=n) for n in range(self._next, upto)]
        self._next = upto
        return records

    def position(self):
        return self._next

    def seek(self, position):
        self._next = position

    def commit(self, position):
        self.path.write_text(str(position))

    def lag(self):
        return self.count - self._next

    def close(self):
        pass


@attrs.define(kw_only=True)
class Unsure:
    """Cannot say what it holds."""

    def __call__(self, record):
        return record

    def held(self):
        raise ValueError("who knows")


@attrs.define(kw_only=True)
class Unsendable:
    """Give numbers, some of them with a function in their data or metadata; remember what was committed."""

    count: int
    odd: dict
    _next: int = attrs.field(default=0, init=False)

    def open(self):
        self._next = 0

    def read(self, max_records, timeout_s):
        if self._next == self.count:
            raise EndOfSource("end")
        first, self._next = self._next, min(self.count, self._next + 3)
        return [self._record(number) for number in range(first, self._next)]

    def _record(self, number):
        what = self.odd.get(number)
        data = (lambda: number) if what == "data" else number
        return Record(data, channel="c", seq=number, metadata={"f": print} if what == "metadata" else {})

    def position(self):
        return self._next

    def commit(self, position):
        Path("committed").write_text(str(position))

    def close(self):
        pass


@attrs.define(kw_only=True)
class Reporting:
    """Give numbers without end until it is to end soon; report everything that a source may, and write down the rest.

    Of each three numbers one is refused, some by what cannot be sent.
    """

    path: Path
    _next: int = attrs.field(default=0, init=False)
    _ending: bool = attrs.field(default=False, init=False)
    _closed: bool = attrs.field(default=False, init=False)
    _refused: list = attrs.field(factory=list, init=False)

    def open(self):
        self._next, self._ending, self._closed = 0, False, False

    def read(self, max_records, timeout_s):
        if self._ending and self._next >= 12:
            raise EndOfSource("it was to end")
        if self._next >= 12:
            time.sleep(timeout_s)
            return []
        first, self._next = self._next, self._next + 3
        self._refused.append((Record(b"%d" % first, channel="c", seq=first), HouseError(f"no {first}")))
        if first == 3:
            self._refused.append((Record(print, channel="c", seq=100), ValueError("a function")))
        return [Record(n, channel="c", seq=n) for n in (first + 1, first + 2)]

    def take_refused(self):
        refused, self._refused = self._refused, []
        return refused

    def mark(self):
        return self._next

    def durable(self, position):
        self.path.write_text(str(position))

    def given_up(self, channel):
        with self.path.with_suffix(".given_up").open("a") as file:
            file.write(channel)

    def end_soon(self):
        self._ending = True

    def close(self):
        self._closed = True

    def lost_upstream(self):
        return {"c": 2 if self._closed else 1}

    def dropped_upstream(self):
        return {"c": self._next}

    def rejected(self):
        return 7

    def lag(self):
        return 3

    def lag_s(self):
        return 0.5

    def remarks(self):
        warning = Remark(f"remarked after {self._next}, closed: {self._closed}", "warning")
        return [warning, Remark(f"noted after {self._next}"), Remark(f"closed: {self._closed}")]


@attrs.define(kw_only=True)
class Sleeper:
    """A source that can be woken, and never has a record: it waits for the whole timeout, and writes it down."""

    path: str
    _woken: threading.Event = attrs.field(factory=threading.Event, init=False, eq=False, repr=False)

    def __reduce__(self):
        return _sleeper, (self.path,)

    def open(self):
        pass

    def read(self, max_records, timeout_s):
        with open(self.path, "a") as file:
            file.write(f"{timeout_s}\n")
        self._woken.wait(timeout_s)
        return ()

    def wake(self):
        self._woken.set()

    def close(self):
        pass


def _sleeper(path):
    return Sleeper(path=path)


class Refusing:
    """A store that refuses every record for good."""

    def open(self):
        pass

    def write(self, records):
        raise StoreError("no", failed=[(record, ValueError("no")) for record in records], retryable=False)

    def sync(self):
        pass

    def close(self):
        pass
