"""A survey of a zenoh network: its HEROs, nodes and keys, and the rates of their messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import zenoh

from penstock.errors import CodecError
from penstock_zenoh import wire
from penstock_zenoh.hero.cbor import decode
from penstock_zenoh.hero.event import read_event_key
from penstock_zenoh.session import close_session

_MOST_KEYS = 10_000
_MOST_CLASS = 200


@attrs.define
class Traffic:
    """The observations on one key."""

    count: int = 0
    size_bytes: int = 0


def look(session: zenoh.Session, *, seconds: float, realm: str = "*") -> dict[str, Any]:
    """Observe the network of this session for `seconds` and return the result as plain data; closes the session."""
    traffic: dict[str, Traffic] = {}
    lock = threading.Lock()

    def seen(sample: zenoh.Sample) -> None:
        key = str(sample.key_expr)
        with lock:
            if key in traffic or len(traffic) < _MOST_KEYS:
                one = traffic.setdefault(key, Traffic())
                one.count += 1
                one.size_bytes += len(sample.payload)

    held = [
        session.declare_subscriber(key, zenoh.handlers.Callback(seen, indirect=False))
        for key in ("**", f"@object/{realm}/**")
    ]
    began = time.monotonic()
    try:
        names = _names(session.liveliness().get(f"@object/{realm}/*/**", timeout=min(seconds, 5.0)))
        heros = {name: _hero(session, *name) for name in names}
        ends = [
            *(_end("source", token, wire.SourceCard) for token in session.liveliness().get(wire.SOURCES)),
            *(_end("store", token, wire.PublisherCard) for token in session.liveliness().get(wire.PUBLISHERS)),
        ]
        nodes = {
            "self": str(session.info.zid()),
            "routers": sorted(map(str, session.info.routers_zid())),
            "peers": sorted(map(str, session.info.peers_zid())),
        }
        time.sleep(max(0.0, began + seconds - time.monotonic()))
    finally:
        took_s = time.monotonic() - began
        close_session(session, held)
    with lock:
        return {
            "seconds": round(took_s, 3),
            "heros": _heros(heros, traffic, took_s),
            "penstock": sorted((end for end in ends if end), key=str),
            "nodes": nodes,
            "keys": [
                {"key": key, **_rates(one, took_s)}
                for key, one in sorted(traffic.items())
                if not key.startswith("@object/")
            ],
        }


def table(found: Mapping[str, Any]) -> str:
    """Return the result of `look` as text."""
    lines = [f"Seen within {found['seconds']:.1f} s:"]
    for hero in found["heros"]:
        lines.append(f"  HERO {hero['name']!r} in realm {hero['realm']!r} ({hero['class'] or 'of unknown class'})")
        lines += [
            f"    event {event['event']!r}: {event['per_s']:.1f}/s, {event['mb_per_s']:.3f} MB/s"
            for event in hero["events"]
        ]
    if not found["heros"]:
        lines.append("  no HERO")
    lines += [f"  penstock {end['role']} {end['key']!r} ({end['process']})" for end in found["penstock"]]
    nodes = found["nodes"]
    lines.append(f"  zenoh nodes: {len(nodes['routers'])} routers, {len(nodes['peers'])} peers")
    lines += [f"    {kind[:-1]} {zid}" for kind in ("routers", "peers") for zid in nodes[kind]]
    lines += [f"  key {one['key']!r}: {one['per_s']:.1f}/s, {one['mb_per_s']:.3f} MB/s" for one in found["keys"]]
    return "\n".join(lines)


def _names(replies: Iterable[zenoh.Reply]) -> set[tuple[str, str]]:
    names = set()
    for reply in replies:
        parsed = read_event_key(str(reply.ok.key_expr)) if reply.ok is not None else None
        if parsed is not None and parsed[2] == "_health":
            names.add(parsed[:2])
    return names


def _hero(session: zenoh.Session, realm: str, name: str) -> dict[str, Any]:
    """Return the description that a HERO publishes of itself; unreadable parts are left out."""
    base = f"@object/{realm}/{name}"
    about = _ask(session, f"{base}/_discover/**")
    listed = _ask(session, f"{base}/_capabilities/**")
    events = [
        str(one["name"])
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict) and one.get("flavor") == "event" and "name" in one
    ]
    name_of_class = str(about.get("class", "")) if isinstance(about, dict) else ""
    if not name_of_class.isprintable():  # it is printed on a terminal
        name_of_class = repr(name_of_class)
    return {"class": name_of_class[:_MOST_CLASS], "events": events}


def _ask(session: zenoh.Session, key: str) -> Any:
    for reply in session.get(key, timeout=2.0):
        if reply.ok is not None:
            try:
                return decode(reply.ok.payload.to_bytes())
            except CodecError:
                return None
    return None


def _end(
    role: str, reply: zenoh.Reply, card: type[wire.SourceCard] | type[wire.PublisherCard]
) -> dict[str, str] | None:
    token = wire.read_card(str(reply.ok.key_expr), card) if reply.ok is not None else None
    return None if token is None else {"role": role, "key": token[1].key, "process": token[1].process}


def _heros(
    known: Mapping[tuple[str, str], Mapping[str, Any]], traffic: Mapping[str, Traffic], took_s: float
) -> list[dict[str, Any]]:
    events: dict[tuple[str, str], dict[str, Traffic]] = {
        name: {event: Traffic() for event in hero["events"]} for name, hero in known.items()
    }
    for key, one in traffic.items():
        parsed = read_event_key(key)
        if parsed is not None:
            events.setdefault(parsed[:2], {})[parsed[2]] = one
    return [
        {
            "name": name,
            "realm": realm,
            "class": known.get((realm, name), {}).get("class", ""),
            "events": [{"event": event, **_rates(one, took_s)} for event, one in sorted(found.items())],
        }
        for (realm, name), found in sorted(events.items())
    ]


def _rates(one: Traffic, took_s: float) -> dict[str, float]:
    return {"count": one.count, "per_s": one.count / took_s, "mb_per_s": one.size_bytes / 1e6 / took_s}
