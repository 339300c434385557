"""The results of the demo: their directory, a comparison of both stores, and a contact sheet."""

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
"""Maximum height of a picture on the contact sheet, in pixels."""


def new_directory(out: Path) -> Path:
    """Create and return the first of `out`/run-0001, run-0002, … that does not exist: no run overwrites another.

    Raises:
        ConfigError: it cannot be created; the message has the directory and the reason.
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
        raise ConfigError(f"--out {str(out)!r}: {reason.lower()}: choose a directory with write permission") from error
    raise AssertionError("unreachable: count() does not end")


def remove_if_empty(directory: Path) -> None:
    """Remove the directory and its parent if they are empty, after a demo that failed early."""
    for path in (directory, directory.parent):
        try:
            path.rmdir()
        except OSError:
            return


@attrs.frozen(kw_only=True)
class Comparison:
    """The result of comparing frames of both stores.

    Attributes:
        in_npy: Number of frames in the npy store.
        in_lmdb: Number of frames in the LMDB store.
        equal: Keys of frames that are bit-identical in both.
        different: Keys of frames that are not.
    """

    in_npy: int
    in_lmdb: int
    equal: list[str]
    different: list[str]

    @property
    def ok(self) -> bool:
        """Whether both stores hold the same number of frames, and all compared frames are equal."""
        return self.in_npy == self.in_lmdb and not self.different

    def __str__(self) -> str:
        text = f"npy holds {self.in_npy} frames and LMDB {self.in_lmdb}; "
        text += f"{len(self.equal)} of {len(self.equal) + len(self.different)} read back from both are bit-identical"
        return text + "".join(f"\n  {key} differs between the two stores" for key in self.different)


def compare(directory: Path, channel: str, plugins: Plugins) -> Comparison:
    """Read a few frames, spread over the run, from both stores, and compare them."""
    npy, lmdb = _open_stores(directory, plugins)
    try:
        results: dict[bool, list[str]] = {True: [], False: []}
        # one by one: listing the keys of LMDB would read all values into memory
        for seq in spread(range(len(lmdb)), READ_BACK):
            key = lmdb.key_of(Record(None, channel=channel, seq=seq))
            results[same_frame(lmdb, npy, key)].append(key)
        return Comparison(in_npy=len(npy), in_lmdb=len(lmdb), equal=results[True], different=results[False])
    finally:
        npy.close()
        lmdb.close()


def same_frame(lmdb: Any, npy: Any, key: str) -> bool:
    """Return whether both stores have the same array under this key: shape, dtype and every bit."""
    try:
        one = lmdb.get(key)
        other = npy.get(npy.key_of(one))
    except (ObjectNotFoundError, CannotGetObjectError):
        return False
    same_kind = one.data.shape == other.data.shape and one.data.dtype == other.data.dtype
    return bool(same_kind and one.data.tobytes() == other.data.tobytes())


def draw_contact_sheet(directory: Path, plugins: Plugins) -> Path:
    """Draw some of the stored frames, spread over the run, into one PNG file; return its path. Raises StoreError."""
    from penstock_kafka_av.picture import contact_sheet

    smaller = plugins.load("processor", "thumbnail")(height=SHEET_HEIGHT)
    npy, lmdb = _open_stores(directory, plugins)
    try:
        frames = [smaller(npy.get(key)).data for key in spread(sorted(npy.keys()), ON_THE_SHEET)]
    finally:
        npy.close()
        lmdb.close()
    if not frames:
        raise StoreError(f"{directory}: no frame was stored, so there is nothing to draw; see the report")
    path = directory / "contact-sheet.png"
    contact_sheet(frames, path, columns=4)
    return path


def spread(things: Sequence[T], count: int) -> list[T]:
    """Return up to `count` of the things at equal intervals, including the first and the last."""
    if len(things) <= count:
        return list(things)
    return [things[round(index * (len(things) - 1) / (count - 1))] for index in range(count)]


def _open_stores(directory: Path, plugins: Plugins) -> tuple[Any, Any]:
    npy = plugins.load("store", "npy")(**npy_settings(directory / "frames"))
    lmdb = plugins.load("store", "lmdb")(path=directory / "frames.lmdb", readonly=True)
    npy.open()
    lmdb.open()
    return npy, lmdb
