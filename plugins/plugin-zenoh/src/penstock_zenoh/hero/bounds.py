"""The events that begin and end an acquisition, and the events that are counted in between."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from penstock_zenoh.hero.names import common_beginning

STARTED, STOPPED = "acquisition_started", "acquisition_stopped"


@attrs.frozen
class Bounds:
    """The events that bound an acquisition, and the events that are its frames.

    Attributes:
        names: The event that begins an acquisition, and the one that ends it; () without acquisitions.
        frames: The events that are counted; none without acquisitions.
    """

    names: tuple[str, ...]
    frames: frozenset[str]

    @classmethod
    def of(cls, events: Sequence[str], bounds: Sequence[str] | None, *, is_counted: bool) -> Bounds:
        """Return the bounds of these events.

        Frames are the events that share a prefix with the bounds ("acquisition_"). Without such an event,
        `events` need not be the frames of an acquisition: they may be the state or the observables of a camera. Then
        bounds are used only if the user has set them, or a counting key (`is_counted`).
        """
        names = (STARTED, STOPPED) if bounds is None else tuple(bounds)
        others = [each for each in events if each not in names]
        beginning, mark, _ = common_beginning(names).rpartition("_")
        akin = [each for each in others if mark and each.startswith(beginning + mark)]
        if bounds is None and not akin and not (is_counted and others):
            names = ()
        return cls(names, frozenset(akin or others) if names else frozenset())
