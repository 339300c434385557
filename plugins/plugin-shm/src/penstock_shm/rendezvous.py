"""How the two sides of a channel find each other: each listens on a socket in the channel's directory.

A newcomer connects to every socket of the other side. Processes join one at a time, under a lock, so that any two sides
connect exactly once. A socket whose process died refuses connections; the next process that finds it removes it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import weakref
from pathlib import Path

import attrs

from penstock.errors import CannotConnectToStoreError
from penstock.processes import is_alive
from penstock_shm.directory import locked_directory, path_of, tidy, usable
from penstock_shm.wire import new_socket

PRODUCER, EXCLUSIVE, CONSUMER, LATEST = "p", "x", "c", "l"

_BACKLOG = 1024
_open: weakref.WeakSet[Endpoint] = weakref.WeakSet()


@attrs.define(eq=False)
class Endpoint:
    """One end of a channel: its listening socket, and the connections to the sides that were there before.

    Attributes:
        path: The socket's path in the channel's directory.
        listener: Accepts later sides; does not block.
        met: The sides that were there before, each with its role and process id; not yet greeted.
    """

    path: Path
    listener: socket.socket
    met: list[tuple[str, int, socket.socket]]

    def leave(self) -> None:
        """Close and remove the socket, those of dead processes, and the directory if it is empty then."""
        self.listener.close()
        with contextlib.suppress(FileNotFoundError), locked_directory(self.path.parent) as directory:
            self.path.unlink(missing_ok=True)
            for name in os.listdir(directory):
                if not is_alive(pid_of(name)) and (found := connect(directory, name)):
                    found.close()  # of another PID namespace
            tidy(self.path.parent)

    def give_up(self) -> None:
        """Leave, and close the connections too, after a failure that followed `join`."""
        for _, _, connection in self.met:
            connection.close()
        self.leave()


def join(channel_name: str, role: str) -> Endpoint:
    """Add an endpoint to the channel and connect to every living side of the other kind.

    Raises:
        CannotConnectToStoreError: the channel has an exclusive producer, or this one is exclusive and another is
            there; or the directory cannot be used.
    """
    with usable(f"shm channel {channel_name!r}"):
        endpoint = _add_endpoint(path_of("channel", channel_name), channel_name, role)
    _open.add(endpoint)
    return endpoint


def _add_endpoint(path: Path, channel_name: str, role: str) -> Endpoint:
    producing = role in (PRODUCER, EXCLUSIVE)
    met: list[tuple[str, int, socket.socket]] = []
    with locked_directory(path) as directory, contextlib.ExitStack() as undo:
        undo.callback(tidy, path)
        for name in sorted(os.listdir(directory)):
            other, pid = name[:1], pid_of(name)
            if producing == (other in (PRODUCER, EXCLUSIVE)):
                if producing and EXCLUSIVE in (role, other) and (found := connect(directory, name)):
                    found.close()
                    wish = "that one is to be the only one" if other == EXCLUSIVE else "this one is to be the only one"
                    raise CannotConnectToStoreError(
                        f"shm channel {channel_name!r} has a producer already (process {pid}), and {wish}; "
                        "choose another channel_name, or end the other run"
                    )
                continue
            if found := connect(directory, name):
                undo.callback(found.close)
                met.append((other, pid, found))
        listener = new_socket()
        undo.callback(listener.close)
        listener.setblocking(False)
        name = f"{role}-{os.getpid()}-{secrets.token_hex(4)}"
        listener.bind(in_directory(directory, name))
        listener.listen(_BACKLOG)
        undo.pop_all()
    return Endpoint(path / name, listener, met)


def connect(directory: int, name: str, *, remove: bool = True) -> socket.socket | None:
    """Return a connection to this socket; None if its process is dead, in which case `remove` deletes it.

    Call it with the directory locked.
    """
    connection = new_socket()
    connection.setblocking(False)
    try:
        connection.connect(in_directory(directory, name))
    except (ConnectionRefusedError, FileNotFoundError):
        connection.close()
        if remove:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
        return None
    except OSError as error:
        connection.close()
        raise CannotConnectToStoreError(
            f"shm channel: process {pid_of(name)} does not answer ({error.strerror}); is it stopped?"
        ) from error
    return connection


def in_directory(directory: int, name: str) -> str:
    """Return a path for binding a socket in an open directory, however long its real path is."""
    return f"/proc/self/fd/{directory}/{name}"


def pid_of(name: str) -> int:
    """Return the process that owns the socket of this name."""
    digits = name[2:].partition("-")[0]
    return int(digits) if digits.isdigit() else 0


def _after_fork() -> None:
    """Close the copies in a forked process: a dead parent's socket must not seem alive."""
    for endpoint in list(_open):
        endpoint.listener.close()
        for _, _, connection in endpoint.met:
            connection.close()


os.register_at_fork(after_in_child=_after_fork)
