"""The causes of lost events of HEROs, and the settings that prevent them."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Mapping
from typing import Any

import zenoh

from penstock.errors import CodecError
from penstock_zenoh.hero.cbor import decode
from penstock_zenoh.hero.event import HeroEventError, data_and_metadata, event_key, read_event_key
from penstock_zenoh.hero.frames import Frames
from penstock_zenoh.session import close_session

_NEEDED = (1, 10)
_CAPACITY = 65_536

SENDER = """\
from heros.zenoh import session_manager   # before the first HERO is made
session_manager.update_config({
    "transport/link/tx/queue/size/data": 16,
    "transport/link/tx/queue/congestion_control/drop/wait_before_drop": 2_000_000,
    "transport/link/tx/queue/congestion_control/drop/max_wait_before_drop_fragments": 5_000_000,
})"""
"""HEROs send with best effort: with these settings a sender waits seconds, not 1 ms, for a slow reader."""

RECEIVER = """\
config = {"transport/shared_memory/enabled": False}   # in the source: ps.source("hero", …, config=config)"""
"""The shared memory of zenoh 1.9 drops even reliable messages under load. Sessions of penstock disable it."""


def watch(session: zenoh.Session, *, seconds: float, realm: str, sequence_key: str) -> dict[str, Any]:
    """Count each event's arrivals and gaps for `seconds`, and return them as plain data; closes the session."""
    subscriber = session.declare_subscriber(event_key(realm, "**", "*"), zenoh.handlers.FifoChannel(_CAPACITY))
    frames: dict[tuple[str, str, str], Frames] = {}
    counts: dict[tuple[str, str, str], list[int]] = {}
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            sample = subscriber.handler.try_recv()
            if sample is None:
                time.sleep(0.002)
                continue
            name = read_event_key(str(sample.key_expr))
            if name is None or sample.kind != zenoh.SampleKind.PUT:
                continue
            arrived_lost = counts.setdefault(name, [0, 0])
            arrived_lost[0] += 1
            try:
                metadata = data_and_metadata(decode(sample.payload.to_bytes()), "pair")[1]
            except (CodecError, HeroEventError):
                continue
            arrived_lost[1] += frames.setdefault(name, Frames(sequence_key)).take(metadata)[2]
    finally:
        close_session(session, (subscriber,))
    return {
        "seconds": seconds,
        "sequence_key": sequence_key,
        "zenoh": importlib.metadata.version("eclipse-zenoh"),
        "events": [
            {
                "realm": name[0],
                "hero": name[1],
                "event": name[2],
                "arrived": arrived,
                "lost": lost,
                "counted": name in frames and frames[name].last is not None,
            }
            for name, (arrived, lost) in sorted(counts.items())
        ],
    }


def advice(seen: Mapping[str, Any]) -> str:
    """Return the result of `watch` as text, with the lines to paste."""
    lines = []
    for event in seen["events"]:
        total = event["arrived"] + event["lost"]
        said = (
            f"{event['lost']} of {total} lost ({100 * event['lost'] / total:.1f} %)"
            if event["counted"]
            else f"{event['arrived']} arrived; losses are not countable without {seen['sequence_key']!r}"
        )
        lines.append(f"HERO {event['hero']!r}, event {event['event']!r}: {said}")
    if not lines:
        lines.append(f"No event of a HERO arrived within {seen['seconds']:g} s: see `penstock scout`.")
    if tuple(map(int, seen["zenoh"].split(".")[:2])) < _NEEDED:
        lines.append(
            f"eclipse-zenoh {seen['zenoh']} drops reliable messages under load: pip install 'eclipse-zenoh>=1.10'"
        )
    lines += [
        "",
        "Senders (in the program of the camera, or the same keys in HEROS_ZENOH_CONFIG):",
        "",
        SENDER,
        "",
        "Receivers that are not penstock:",
        "",
        RECEIVER,
        "",
        "Programs of your own should publish with congestion_control=BLOCK and reliability=RELIABLE.",
    ]
    return "\n".join(lines)
