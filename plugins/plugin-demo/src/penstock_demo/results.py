"""What the demo kept: where it goes, read back from both stores and compared, and drawn."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from penstock.errors import CannotGetObjectError, ConfigError, ObjectNotFoundError, StoreError
from penstock.plugins import Plugins
from penstock.record import Record
from penstock_demo.pipelines import npy_settings

T = TypeVar("T")

READ_BACK = 5
ON_THE_SHEET = 12
SHEET_HEIGHT = 240
"""Rows of pixels that a picture on the contact sheet has at most."""


def new_directory(out: Path) -> Path:
    """Make and return the first of `out`/run-0001, run-0002, … that is not there yet: no run overwrites another.

    Raises:
        ConfigError: it cannot be made; names the directory and why.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            directory = out / f"run-{number:04d}"
            try:
                directory.mkdir()
            except FileExistsError:
                continue
            return directory
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"--out {str(out)!r}: {reason.lower()}: name a directory that you may write to") from error
    raise AssertionError("counting does not end")


def remove_if_empty(directory: Path) -> None:
    """Remove the directory, and the one it is in, if a demo that failed has left nothing in them."""
    for path in (directory, directory.parent):
        try:
            path.rmdir()
        except OSError:
            return


@attrs.frozen(kw_only=True)
class Comparison:
    """What reading back gave.

    Attributes:
        in_npy: How many frames the npy store holds.
        in_lmdb: How many frames the LMDB store holds.
        equal: Keys of the frames that were read from both, and are the same bit by bit.
        different: Keys of those that are not.
    """

    in_npy: int
    in_lmdb: int
    equal: list[str]
    different: list[str]

    @property
    def ok(self) -> bool:
        """True if both stores hold as many, and what was read back is the same."""
        return self.in_npy == self.in_lmdb and not self.different

    def __str__(self) -> str:
        text = f"npy holds {self.in_npy} frames and LMDB {self.in_lmdb}; "
        text += (
            f"{len(self.equal)} of {len(self.equal) + len(self.different)} read back from both are the same bit by bit"
        )
        return text + "".join(f"\n  {key} differs between the two stores" for key in self.different)


def compare(directory: Path, channel: str, plugins: Plugins) -> Comparison:
    """Read a few frames back from both stores, spread over the run, and compare them."""
    npy, lmdb = _open_stores(directory, plugins)
    try:
        results: dict[bool, list[str]] = {True: [], False: []}
        # Asked for one by one: to list the keys of LMDB would bring all values into memory.
        for seq in spread(range(len(lmdb)), READ_BACK):
            key = lmdb.key_of(Record(None, channel=channel, seq=seq))
            results[same_frame(lmdb, npy, key)].append(key)
        return Comparison(in_npy=len(npy), in_lmdb=len(lmdb), equal=results[True], different=results[False])
    finally:
        npy.close()
        lmdb.close()


def same_frame(lmdb: Any, npy: Any, key: str) -> bool:
    """Return whether both stores hold the same array here: shape, dtype and every bit."""
    try:
        one = lmdb.get(key)
        other = npy.get(npy.key_of(one))
    except (ObjectNotFoundError, CannotGetObjectError):
        return False
    same_kind = one.data.shape == other.data.shape and one.data.dtype == other.data.dtype
    return bool(same_kind and one.data.tobytes() == other.data.tobytes())


def draw_contact_sheet(directory: Path, plugins: Plugins) -> Path:
    """Draw some of the stored frames, spread over the run, as one PNG; return its path."""
    from penstock_kafka_av.picture import contact_sheet

    smaller = plugins.load("processor", "thumbnail")(height=SHEET_HEIGHT)
    npy, lmdb = _open_stores(directory, plugins)
    try:
        frames = [smaller(npy.get(key)).data for key in spread(sorted(npy.keys()), ON_THE_SHEET)]
    finally:
        npy.close()
        lmdb.close()
    if not frames:
        raise StoreError(f"{directory}: no frame was stored, so there is nothing to draw; look at the report")
    path = directory / "contact-sheet.png"
    contact_sheet(frames, path, columns=4)
    return path


def spread(things: Sequence[T], count: int) -> list[T]:
    """Return up to `count` of the things, the first and the last among them, with equal steps between."""
    if len(things) <= count:
        return list(things)
    return [things[round(index * (len(things) - 1) / (count - 1))] for index in range(count)]


def _open_stores(directory: Path, plugins: Plugins) -> tuple[Any, Any]:
    npy = plugins.load("store", "npy")(**npy_settings(directory / "frames"))
    lmdb = plugins.load("store", "lmdb")(path=directory / "frames.lmdb", readonly=True)
    npy.open()
    lmdb.open()
    return npy, lmdb
