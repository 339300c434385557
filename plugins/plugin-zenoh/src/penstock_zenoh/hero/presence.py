"""The presence of a HERO on the network: its liveliness token, and its answers to discovery queries."""

from __future__ import annotations

from typing import Any

import attrs
import zenoh

from penstock_zenoh.hero.cbor_out import encode

_PROTOCOL = 1.0
_CLASS = "penstock_zenoh.hero.store.HeroStore"


@attrs.frozen
class Presence:
    """The presence of a HERO with one event and no methods."""

    realm: str
    hero: str
    event_name: str

    def declare(self, session: zenoh.Session) -> list[Any]:
        """Declare the queryables, then the token; return the declarations."""
        base = f"@object/{self.realm}/{self.hero}"
        about = {
            "proto_version": _PROTOCOL,
            "name": self.hero,
            "class": _CLASS,
            "implements": set(),
            "tags": {f"_proto_version:{_PROTOCOL}", f"_zid:{session.info.zid()}"},
            "extra_metadata": {},
        }
        answers = {"_discover": about, "_capabilities": [{"name": self.event_name, "flavor": "event"}]}
        held: list[Any] = []
        for chunk, value in answers.items():
            key, payload = f"{base}/{chunk}", encode(value)

            def answer(query: zenoh.Query, key: str = key, payload: bytes = payload) -> None:
                query.reply(key, payload, encoding=zenoh.Encoding.APPLICATION_CBOR)

            held.append(session.declare_queryable(key, zenoh.handlers.Callback(answer, indirect=False)))
        held.append(session.liveliness().declare_token(f"{base}/_health"))
        return held
