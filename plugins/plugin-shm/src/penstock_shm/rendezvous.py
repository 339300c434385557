"""How the two sides of a channel find each other: each has a socket in the channel's directory; newcomers knock.

Joining is done one at a time, under a lock, so that any two sides meet exactly once, whoever came first. A socket whose
process died refuses connections; whoever finds it removes it.
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
from penstock_shm.place import locked_directory, path_of, tidy, usable
from penstock_shm.wire import new_socket

PRODUCER, EXCLUSIVE, CONSUMER, LATEST = "p", "x", "c", "l"

_BACKLOG = 1024
_open: weakref.WeakSet[Seat] = weakref.WeakSet()


@attrs.define(eq=False)
class Seat:
    """A place in a channel: its socket to be knocked at, and the connections made to the sides found there.

    Attributes:
        path: The socket's path in the channel's directory.
        listener: Accepts those who come later; does not block.
        met: The sides that were there before, each with its role and process id; not yet greeted.
    """

    path: Path
    listener: socket.socket
    met: list[tuple[str, int, socket.socket]]

    def leave(self) -> None:
        """Close the socket and remove it, with those of the dead, and the directory if nobody else is in it."""
        self.listener.close()
        with contextlib.suppress(FileNotFoundError), locked_directory(self.path.parent) as directory:
            self.path.unlink(missing_ok=True)
            for name in os.listdir(directory):
                if not Path(f"/proc/{pid_of(name)}").exists() and (found := knock(directory, name)):
                    found.close()  # of another PID namespace
            tidy(self.path.parent)

    def give_up(self) -> None:
        """Leave, and close the connections too: whoever joined could not go on."""
        for _, _, connection in self.met:
            connection.close()
        self.leave()


def join(channel_name: str, role: str) -> Seat:
    """Take a place in the channel and connect to every living side of the other kind.

    Raises:
        CannotConnectToStoreError: a producer is alone in this channel by its own wish, or wants to be and is not; or
            the directory cannot be used.
    """
    with usable(f"shm channel {channel_name!r}"):
        seat = _take_place(path_of("channel", channel_name), channel_name, role)
    _open.add(seat)
    return seat


def _take_place(path: Path, channel_name: str, role: str) -> Seat:
    producing = role in (PRODUCER, EXCLUSIVE)
    met: list[tuple[str, int, socket.socket]] = []
    with locked_directory(path) as directory, contextlib.ExitStack() as undo:
        undo.callback(tidy, path)
        for name in sorted(os.listdir(directory)):
            other, pid = name[:1], pid_of(name)
            if producing == (other in (PRODUCER, EXCLUSIVE)):
                if producing and EXCLUSIVE in (role, other) and (found := knock(directory, name)):
                    found.close()
                    wish = "it wants to be the only one" if other == EXCLUSIVE else "this one is to be the only one"
                    raise CannotConnectToStoreError(
                        f"shm channel {channel_name!r} has a producer already (process {pid}), and {wish}; "
                        "choose another channel_name, or end the other run"
                    )
                continue
            if found := knock(directory, name):
                undo.callback(found.close)
                met.append((other, pid, found))
        listener = new_socket()
        undo.callback(listener.close)
        listener.setblocking(False)
        name = f"{role}-{os.getpid()}-{secrets.token_hex(4)}"
        listener.bind(in_directory(directory, name))
        listener.listen(_BACKLOG)
        undo.pop_all()
    return Seat(path / name, listener, met)


def knock(directory: int, name: str, *, remove: bool = True) -> socket.socket | None:
    """Return a connection to this socket; None if its process is dead, in which case the socket is removed if wished.

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
    """Return a path by which a socket in an open directory can be bound, however long its real path is."""
    return f"/proc/self/fd/{directory}/{name}"


def pid_of(name: str) -> int:
    """Return the process that the socket of this name is of."""
    digits = name[2:].partition("-")[0]
    return int(digits) if digits.isdigit() else 0


def _after_fork() -> None:
    """Close what a fork has copied: a dead parent's socket must not seem to be alive."""
    for seat in list(_open):
        seat.listener.close()
        for _, _, connection in seat.met:
            connection.close()


os.register_at_fork(after_in_child=_after_fork)
