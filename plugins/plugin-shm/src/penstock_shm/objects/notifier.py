"""Notifications of new objects between processes: signals without content, so that no content can be lost."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import select
import socket
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from penstock_shm.directory import locked_directory
from penstock_shm.rendezvous import in_directory

_open: weakref.WeakSet[Notifier] = weakref.WeakSet()
_log = logging.getLogger(__name__)


class Notifier:
    """Call a function, in a thread of its own, after each notification in this directory."""

    def __init__(self, directory: Path, prefix: str, answer: Callable[[], None]) -> None:
        """Bind a socket `<prefix><pid>-…` in the directory, and start the thread."""
        self._answer = answer
        self._pid = os.getpid()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        name = f"{prefix}{self._pid}-{secrets.token_hex(4)}"
        self.path = directory / name
        try:
            with locked_directory(directory) as descriptor:
                self._socket.bind(in_directory(descriptor, name))
        except BaseException:
            self._socket.close()
            raise
        self._inner, self._outer = socket.socketpair()
        _open.add(self)
        self._thread = threading.Thread(target=self._listen, name=f"penstock notifier {directory.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and remove the socket. May be called repeatedly, but not from `answer`."""
        if self._pid != os.getpid():
            return
        with contextlib.suppress(OSError):  # already closed
            self._outer.send(b"x")
        if self._thread is not threading.current_thread():
            self._thread.join()
        self.path.unlink(missing_ok=True)
        self._socket.close()
        self._outer.close()
        self._inner.close()

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._inner, select.POLLIN)
        while True:
            if any(fd == self._inner.fileno() for fd, _ in poll.poll()):
                return
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._socket.recv(64, socket.MSG_DONTWAIT)
            try:
                self._answer()
            except Exception:  # raised by the user's function: it must not end the thread
                _log.exception("a subscriber of %s failed", self.path.parent.name)


def _after_fork() -> None:
    """Close the copies in a forked process: a dead parent's socket must not seem alive."""
    for notifier in list(_open):
        notifier._socket.close()


os.register_at_fork(after_in_child=_after_fork)


def notify(directory: Path, names: list[str]) -> None:
    """Notify the owners of these sockets; remove the sockets of dead processes."""
    if not names:
        return
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            for name in names:
                try:
                    caller.sendto(b"!", socket.MSG_DONTWAIT, in_directory(descriptor, name))
                except BlockingIOError:
                    pass  # a notification is pending already
                except (ConnectionRefusedError, FileNotFoundError):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=descriptor)
        finally:
            caller.close()
            os.close(descriptor)
