"""Opening zenoh sessions: by default peer to peer on loopback, without multicast, within a bounded time."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import attrs
import zenoh

from penstock.errors import ConfigError, PenstockError
from penstock_zenoh.library_errors import is_library_error

RENDEZVOUS = "tcp/127.0.0.1:7447"
"""The default endpoint for processes of one machine: the first one listens there, the others connect to it."""

MOST_BLOCKED_S = 10.0
"""Seconds after which a connection that accepts no data is closed: as long as zenoh's lease."""

T = TypeVar("T")

_ANY_LOOPBACK_PORT = "tcp/127.0.0.1:0"
_log = logging.getLogger(__name__)

_DEFAULTS: Mapping[str, Any] = {
    "mode": "peer",
    "scouting/multicast/enabled": False,
    # A sender reuses shared memory that a receiver does not confirm in time: after a receiver with a queue had stood
    # for 2 s, 18 to 21 of 2,000 frames held the bytes of newer ones (zenoh 1.10.2); through a socket, none did.
    "transport/shared_memory/enabled": False,
    "transport/link/tx/queue/congestion_control/drop/wait_before_drop": 2_000_000,
    "transport/link/tx/queue/congestion_control/drop/max_wait_before_drop_fragments": 5_000_000,
    "transport/link/tx/queue/size/data": 16,
    "connect/retry": {"period_init_ms": 50, "period_max_ms": 1000, "period_increase_factor": 2.0},
}


@attrs.frozen(kw_only=True)
class Network:
    """The endpoints and configuration of a session.

    Attributes:
        rendezvous: Endpoint used if neither `listen` nor `connect` is given.
        listen: Endpoints to listen on.
        connect: Endpoints to connect to, all of them; lost connections are re-established.
        config: zenoh configuration, merged last: nested plain data, or the text of a JSON5 file.
        mode: "peer", "client" (connects to a router only), or "router".
        whole: Text of a complete zenoh configuration, used unchanged instead of all other attributes.
        timeout_s: Seconds until opening fails. A connection that accepts no data for so long, at most 10 s, is closed.
    """

    rendezvous: str = RENDEZVOUS
    listen: tuple[str, ...] | None = None
    connect: tuple[str, ...] | None = None
    config: Mapping[str, Any] | str | None = attrs.field(default=None, repr=False)
    mode: str = "peer"
    whole: str | None = attrs.field(default=None, repr=False)
    timeout_s: float = 30.0

    def open(self) -> zenoh.Session:
        """Open a session.

        Raises:
            ConnectionError: an endpoint cannot be reached; the message names it and the remedy.
            ConfigError: zenoh does not accept the endpoints or `config`.
        """
        if self.whole is not None:
            return self._open_whole(self.whole)
        if self.listen is None and self.connect is None and self.mode == "peer":
            return self._meet()
        try:
            return self._open(*self._ends(), self.timeout_s)
        except zenoh.ZError as error:
            raise ConnectionError(self._explain(error)) from error

    def _open_whole(self, text: str) -> zenoh.Session:
        try:
            config = zenoh.Config.from_json5(text)
        except zenoh.ZError as error:
            raise ConfigError(
                f"HEROS_ZENOH_CONFIG: is not a zenoh configuration in JSON5: {_reason(error)}; correct or unset it"
            ) from None
        try:
            return zenoh.open(config)
        except zenoh.ZError as error:
            raise ConnectionError(
                f"cannot open a zenoh session with the configuration of HEROS_ZENOH_CONFIG: {_reason(error)}"
            ) from None

    def _ends(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return the endpoints to listen on and to connect to: a router listens there, a client connects."""
        given = self.listen is not None or self.connect is not None
        at = () if given else (self.rendezvous,)
        if self.mode == "client":
            return (), self.connect or at
        return self.listen or at, self.connect or ()

    def _meet(self) -> zenoh.Session:
        """Listen at the rendezvous, or connect to it if another process listens there; retry if it ends."""
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                return self._open((self.rendezvous,), (), self.timeout_s)
            except zenoh.ZError as error:
                if "in use" not in str(error):
                    raise ConnectionError(self._explain(error)) from error
            left_s = deadline - time.monotonic()
            try:
                return self._open((_ANY_LOOPBACK_PORT,), (self.rendezvous,), min(max(left_s, 0.1), 2.0))
            except zenoh.ZError as error:
                if left_s <= 0:
                    raise ConnectionError(
                        f"{self.rendezvous} is in use by a program that does not answer as zenoh within "
                        f"{self.timeout_s:g} s: end that program, or set rendezvous= to a free port on both sides"
                    ) from error
                _log.debug("no answer at %s; trying again: %s", self.rendezvous, error)

    def _open(self, listen: Sequence[str], connect: Sequence[str], timeout_s: float) -> zenoh.Session:
        tree = json.loads(str(zenoh.Config()))
        own = {
            **_DEFAULTS,
            "mode": self.mode,
            "listen/endpoints": list(listen),
            "connect/endpoints": list(connect),
            "connect/timeout_ms": max(1, int(timeout_s * 1000)),
            "connect/exit_on_failure": True,
            # Microseconds that a sender blocks on a connection that accepts no data (a cut cable, a frozen process)
            # until zenoh closes it, whenever the link returns. zenoh's default, 5 s, is too short for a machine under
            # load, and its lease does not end such a block. Slow readers do not cause it: receipts hold the sender back
            # earlier. See decision 39.
            "transport/link/tx/queue/congestion_control/block/wait_before_close": int(
                min(self.timeout_s, MOST_BLOCKED_S) * 1e6
            ),
        }
        for path, value in (*own.items(), *_given(self.config)):
            _put(tree, path.split("/"), value)
        try:
            config = zenoh.Config.from_json5(json.dumps(tree))
        except (zenoh.ZError, TypeError) as error:  # the error may quote a secret: its cause is not shown
            given = {"listen": listen, "connect": connect} | ({"config": "…"} if self.config else {})
            raise ConfigError(
                f"zenoh does not accept {', '.join(f'{k}={v!r}' for k, v in given.items())}: {_reason(error)}; "
                "write endpoints as 'tcp/host:port' and config as in zenoh's DEFAULT_CONFIG.json5"
            ) from None
        return zenoh.open(config)

    def _explain(self, error: zenoh.ZError) -> str:
        reason = _reason(error)
        if "in use" in reason:
            return (
                f"cannot listen on {', '.join(self.listen or ())}: {reason}; end the other program or take another port"
            )
        if "Unable to connect" in reason:
            return (
                f"no answer at {', '.join(self.connect or ())} within {self.timeout_s:g} s: "
                "start the other side, or set connect= to the endpoint on which it listens"
            )
        where = ", ".join((*(self.listen or ()), *(self.connect or ()))) or self.rendezvous
        return f"cannot open a zenoh session ({where}): {reason}; check listen=, connect= and config="


class End(Protocol):
    """A source or a store with the settings of its session."""

    @property
    def rendezvous(self) -> str: ...
    @property
    def listen(self) -> Sequence[str] | None: ...
    @property
    def connect(self) -> Sequence[str] | None: ...
    @property
    def config(self) -> Mapping[str, Any] | str | None: ...
    @property
    def mode(self) -> str: ...
    @property
    def timeout_s(self) -> float: ...


def is_plain_peer(end: End) -> bool:
    """Return whether the session of a source or a store is a peer that relays nothing for others."""
    return end.mode == "peer" and "linkstate" not in str(end.config or "")


def open_session(
    end: End,
    use: Callable[[zenoh.Session], T],
    *,
    name: str,
    unreachable: type[PenstockError],
    whole: str | None = None,
) -> T:
    """Open the session of a source or a store, and return the result of `use`.

    Args:
        end: The source or store whose settings are used.
        use: Called with the session; if it raises, the session is closed.
        name: The name of this end in messages.
        unreachable: Raised if the session does not open, or the library fails during `use`.
        whole: Text of a complete zenoh configuration, used instead of the settings.

    Raises:
        ConfigError: zenoh does not accept the endpoints or `config`.
    """
    network = Network(
        rendezvous=end.rendezvous,
        listen=None if end.listen is None else tuple(end.listen),
        connect=None if end.connect is None else tuple(end.connect),
        config=end.config,
        mode=end.mode,
        whole=whole,
        timeout_s=end.timeout_s,
    )
    try:
        session = network.open()
    except ConnectionError as error:
        raise unreachable(f"{name}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    try:
        return use(session)
    except BaseException as error:
        close_session(session)
        if isinstance(error, zenoh.ZError):
            raise unreachable(f"{name}: {_reason(error)}") from error
        raise


def close_session(session: zenoh.Session, held: Iterable[Any] = ()) -> None:
    """Undeclare the declarations of a session in reverse order, and close it; never raises."""
    for each in (*reversed(tuple(held)), session):
        try:
            (each.close if each is session else each.undeclare)()
        except BaseException as error:  # a panic of the library: the others are closed all the same
            if not is_library_error(error):
                raise
            _log.debug("zenoh: closing: %s", error)


def _reason(error: BaseException) -> str:
    """Return zenoh's error message on one line, without the locations in its own sources."""
    return " ".join(re.sub(r" at /\S+", "", str(error)).split()).rstrip(":.")


def _given(config: Mapping[str, Any] | str | None) -> Iterator[tuple[str, Any]]:
    if isinstance(config, str):
        try:
            parsed = json.loads(str(zenoh.Config.from_json5(config)))
        except zenoh.ZError as error:
            raise ConfigError(f"config: is not a zenoh configuration in JSON5: {_reason(error)}") from None
        # zenoh returns the complete configuration: the values that differ from the defaults are the given ones
        shipped = dict(_flat(json.loads(str(zenoh.Config()))))
        yield from ((path, value) for path, value in _flat(parsed) if shipped.get(path, ...) != value)
    elif config:
        yield from _flat(config)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _put(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a leaf of a tree of dicts; a value on its path that is not a dict is replaced."""
    for name in path[:-1]:
        branch = tree.get(name)
        if not isinstance(branch, dict):
            branch = tree[name] = {}
        tree = branch
    tree[path[-1]] = value
