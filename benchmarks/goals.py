"""The goals of the benchmarks, by subject, and the reason for each that is not met on a machine of two cores.

A goal names its row. A reason states what was measured; it is printed where the goal is missed, and a goal that is
missed without one is an error, as is a goal that no row of its section has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import attrs
from measure import Row


@attrs.frozen
class Goal:
    """What is wanted of the row of this name.

    Attributes:
        section: The module that yields the row.
        row: The name of the row.
        of: "ratio", the median of the turns; "lowest", the ratio of the worst turn; "cost", the time over that of the
            reference; or the "figure" itself.
        sense: Whether it shall be at least or at most `limit`.
        limit: The bound; of a figure in the unit of the row.
        reason: Why the goal is missed, if it is.
    """

    section: str
    row: str
    of: Literal["ratio", "lowest", "cost", "figure"]
    sense: Literal[">=", "<="]
    limit: float
    reason: str = ""

    def value(self, row: Row) -> float:
        """Return the value of this row that the goal is about."""
        if self.of == "figure":
            return row.figure
        if row.ratio is None:
            raise ValueError(f"{row.name}: the goal is a ratio, but the row has no reference; give it one")
        return {"ratio": row.ratio, "lowest": row.ratios[0], "cost": 1 / row.ratio}[self.of]

    def met_by(self, row: Row) -> bool:
        """Return whether this row meets the goal."""
        value = self.value(row)
        return value >= self.limit if self.sense == ">=" else value <= self.limit

    def text(self, unit: str) -> str:
        """Return the goal as the table prints it; `unit` is that of the row."""
        after = {"ratio": " x", "lowest": " x, each turn", "cost": " x its time", "figure": f" {unit}"}[self.of]
        limit = f"{self.limit:.3g}" if self.limit < 1000 else f"{self.limit:,.0f}"
        return f"{self.sense} {limit}{after}"


def ratio(section: str, row: str, least: float, reason: str = "") -> Goal:
    """Return the goal to be this many times as fast as the reference."""
    return Goal(section, row, "ratio", ">=", least, reason)


def at_most(section: str, row: str, most: float, reason: str = "") -> Goal:
    """Return the goal to need no more than this, in the unit of the row."""
    return Goal(section, row, "figure", "<=", most, reason)


def cost(section: str, row: str, most: float, reason: str = "") -> Goal:
    """Return the goal to take at most this many times as long as the reference."""
    return Goal(section, row, "cost", "<=", most, reason)


LOADED: Final = "other programs had the processors: compare the reference in the same turns"
RESENT: Final = (
    "by processor time the sender takes 0.82 ms a record at best, 0.62 with bare zenoh (1.23 and 0.71 where other "
    "programs share the cache): a record stays in memory until the source confirms it, so its bytes leave the cache"
)
HANDLER: Final = (
    "by processor time a record costs 5.2 us (ExEngine 8.7), through a function 10.5 (12.7): 1.1 to copy an array "
    "whose memory comes back, to protect and to weigh it; 1.4 for the record and its entry in the ledger; a function "
    "gets copies of its own for 2 more, and its results are noted, weighed and counted for 1.5"
)
ARRAYS: Final = (
    "between two operations on arrays the interpreter's own data leave the cache, and a lane touches more of them: "
    "3 us a record if no array is touched, 8 to 12 otherwise; the bare loop itself is a tenth slower in a thread"
)
AT_ONCE: Final = (
    "the goal is the rate before a slow iterator's items were handed over at once (0.44 us an item); since then the "
    "fields of each are checked and its name noted (0.46 us in alternating turns of both versions)"
)
WEIGHED: Final = (
    "the queue passes 256 records in 3 us and touches none; an edge weighs each with all that it holds (35 to 60 ns), "
    "counts it, and lets no more than 1,024 wait. The row below has the time that it takes to make the records, too"
)
COPIES: Final = (
    "by processor time a record takes 4.3 us, 1.9 in the bare loop: a function of three arguments may write into its "
    "array, so each record has a copy of its own; fields are checked, records weighed and counted"
)
PACKETS: Final = (
    "by processor time a packet takes 2.6 us in the run's process and 1.5 to 2.4 in a worker, 1.2 and 0.6 to 0.8 with "
    "a pool over bare bytes: it is a record, which is checked, weighed and counted at three edges, and another one for "
    "its result"
)
IDLE: Final = (
    "a checkpoint each second wakes all of them, for 65 us each: 1.7 to 1.9 % were measured where two or three "
    "programs had work, 2.6 to 4.3 % where ten had, since a thread then wakes with cold caches"
)
KEYS: Final = (
    "by processor time a record takes 4.7 us, of which 2 are lmdb's: it has a header, and a place in the index and in "
    "the log of changes, in the same transaction"
)
OBJECTS: Final = (
    "by processor time an object takes 10 us beside 2 of lmdb alone: 5 to find its encoder and to write its type and "
    "header, 3 for an id of its own and its place in a buffer, so that a put need not wait for the disk"
)
SHARED: Final = (
    "a copy into any shared memory takes 1.11 times as long as one into memory of one's own, which has large pages "
    "(0.163 and 0.147 ms); the array's lock and header take 5 us"
)
DECODING: Final = (
    "of 3.0 us, 0.4 are msgpack, 0.3 a record, 0.3 the checks of the frame; the rest looks through metadata and data "
    "for values that msgpack does not know"
)
IMPORTS: Final = (
    "on a machine where bare Python starts in 13 ms, attrs takes 27 ms, and msgspec 37 ms for typing_extensions alone, "
    "which it imports where another distribution has installed it"
)
OUTSIDE: Final = "the machine has no second free core: see what two bare interpreters gain in the same turns"

WHOLE: Final = "source + processor, edge, store of small arrays"
HOP: Final = "1080p frame, a hop between processes"
FRAMES: Final = "1080p (6.2 MB) through three processes"

FELT: Final[Mapping[str, Sequence[Goal]]] = {
    "a generator as a source": (
        at_most("latency", "a generator, 1,000/s, fused: p50", 0.05, LOADED),
        at_most("latency", "a generator, 1,000/s, fused: p99", 1.5, LOADED),
        at_most("latency", "a generator, 1,000/s, over an edge: p50", 0.15, LOADED),
        at_most("latency", "a generator, 1,000/s, over an edge: p99", 1.5, LOADED),
        ratio("lanes", "a generator as fast as it can, fused", 0.15, AT_ONCE),
    ),
    "arrays of 256 KiB to 1 MiB through fused steps": (
        ratio("lanes", "3 fused steps over arrays of 256 KiB", 0.8, ARRAYS),
        ratio("lanes", "3 fused steps over arrays of 1024 KiB", 0.8, ARRAYS),
    ),
    "starting a run or a DataHandler": (
        at_most("at_rest", "a run of one record: processor time", 3.0),
        at_most("at_rest", "a DataHandler of one record: processor time", 3.0),
    ),
    "DataHandler": (
        ratio("handler", "DataHandler: 16 B arrays into a dict", 2, HANDLER),
        Goal("handler", "DataHandler: 16 B arrays into a dict", "lowest", ">=", 1, HANDLER),
        at_most("handler", "DataHandler: 16 B arrays into a dict: processor time a record", 12, HANDLER),
        ratio("handler", "DataHandler: the same through a function", 2, HANDLER),
        Goal("handler", "DataHandler: the same through a function", "lowest", ">=", 1, HANDLER),
        at_most("handler", "DataHandler: the same through a function: processor time a record", 12, HANDLER),
        ratio("handler", "DataHandler: 1 KiB arrays into SQLite", 2),
    ),
    "LMDB, 512 KiB and 1 KiB": (
        ratio("lmdb_files", "store lmdb, 512 KiB records", 0.9, LOADED),
        ratio("lmdb_files", "store lmdb, 1 KiB records", 0.5, KEYS),
    ),
    "zenoh, 1 KiB and 2 MB": (
        ratio("zenoh_network", "zenoh, 1 KiB in lists", 1.0, LOADED),
        ratio("zenoh_network", "zenoh, 2 MB", 0.8, RESENT),
    ),
    'place="process"': (
        ratio("processes", "1 KiB packets to 2 processes, a number back", 0.8, PACKETS),
        ratio("processes", "1080p frames to 2 processes and changed back", 5.0, LOADED),
    ),
    "frames between processes": (
        cost("hops", f"{HOP}: received, passed on", 0.3),
        cost("hops", f"{HOP}: filled in the channel's memory", 0.3),
        cost("hops", f"{HOP}: new, one copy", 1.1),
    ),
    "idle": (at_most("at_rest", "256 idle sources that can be woken", 3.0, IDLE),),
    "single records over an edge": (
        ratio("lanes", "an edge, records one by one", 1.0, LOADED),
        ratio("between_processes", "1 KiB between two processes, both one at a time", 1.0, LOADED),
    ),
    "three fused steps, doing nothing": (ratio("lanes", "3 fused steps that do nothing", 0.6),),
    "edge, lists of 256": (
        ratio("lanes", "an edge, lists of 256", 0.8, WEIGHED),
        ratio("lanes", "an edge, lists of 256, making the records included", 0.8),
    ),
    "pipeline on ExEngine's work": (
        ratio("peers", f"{WHOLE}, beside ExEngine", 5, COPIES),
        ratio("peers", f"{WHOLE}, beside a bare loop", 0.65, COPIES),
    ),
}
"""Latency, copies, start, waiting, handler, processes, stores and the network: what a user feels."""

FURTHER: Final[Sequence[Goal]] = (
    ratio("lanes", "3 fused steps that change records", 1 / 3),
    ratio("peers", f"{WHOLE}, beside ezmsg", 20, COPIES),
    ratio("processes", "Python code that needs a core, 2 processes", 1.7, OUTSIDE),
    ratio("between_processes", "1 KiB between two processes, in lists, beside single puts", 5, LOADED),
    ratio("between_processes", "new frames into a shared array", 0.9, SHARED),
    ratio("between_processes", "one frame into a shared array", 0.9, SHARED),
    ratio("between_processes", "a frame out of a shared array", 0.9, SHARED),
    ratio("between_processes", "1 KiB between two processes, in lists, beside ezmsg", 5, LOADED),
    ratio("between_processes", f"{FRAMES}, as fast as they go", 1.5, LOADED),
    at_most("between_processes", f"{FRAMES}, as fast as they go: p99", 12, LOADED),
    at_most("between_processes", f"{FRAMES}, 30 a second: p50", 1.5, LOADED),
    at_most("between_processes", f"{FRAMES}, 30 a second: p99, the first among them", 5, LOADED),
    ratio("lmdb_files", "store lmdb, 1 KiB records, each synced", 0.9, LOADED),
    ratio("lmdb_files", "LMDBStore, 1 KiB objects, beside pickling", 1.0, OBJECTS),
    ratio("lmdb_files", "LMDBStore, 1 KiB objects, beside lmdb", 0.5, OBJECTS),
    Goal("lmdb_files", "store lmdb, get of 512 KiB as a view", "figure", ">=", 100_000),
    at_most("lmdb_files", "store lmdb, 1,000 keys by a range", 20),
    at_most("lmdb_files", "store lmdb, open a large file", 50, LOADED),
    ratio("zenoh_network", "zenoh, source, 1 KiB", 0.8, LOADED),
    at_most("startup", "import penstock, over bare Python", 80, IMPORTS),
    at_most("startup", "penstock plugins, over bare Python", 200, IMPORTS),
    ratio("records_as_bytes", "codec: encode into a buffer and decode, 2 MiB, a stream of frames", 0.9),
    at_most("records_as_bytes", "codec: encode a small record", 3),
    at_most("records_as_bytes", "codec: decode a small record", 3, DECODING),
)

GOALS: Final[Sequence[Goal]] = (*(goal for goals in FELT.values() for goal in goals), *FURTHER)


def without_reason(rows: Iterable[Row], goals: Sequence[Goal]) -> list[str]:
    """Return the goals that these rows miss and for which no reason is stated, as sentences."""
    return [
        f"{row.name}: misses {goal.text(row.unit)}, and goals.py states no reason"
        for row in rows
        for goal in goals
        if goal.row == row.name and not goal.reason and not goal.met_by(row)
    ]


def without_row(rows: Iterable[Row], sections: Iterable[str], goals: Sequence[Goal]) -> list[str]:
    """Return the goals of these sections that no row has, as sentences."""
    names, measured = {row.name for row in rows}, set(sections)
    return [
        f"{goal.row}: no row of {goal.section} has this name"
        for goal in goals
        if goal.section in measured and goal.row not in names
    ]
