"""The main program of a worker process: it makes a component, answers the calls of the run, and ends with it."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any

import attrs

from penstock.compose.import_path import import_path
from penstock.compose.node import Node
from penstock.compose.resolve import resolve
from penstock.errors import EndOfSource, SourceError
from penstock.link import Link
from penstock.run.process.error_data import error_to_data
from penstock.run.process.working.component import WorkerComponent
from penstock.run.process.working.parent_death import end_with_parent


def main(setup: Mapping[str, Any]) -> None:
    """Serve a component until the run closes it, or dies.

    Its definition follows `setup` on standard input, a pipe from the run. Nothing else is ever unpickled here.
    """
    definition = sys.stdin.buffer.read(setup["size_bytes"])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole process group: the run drains, then ends this one
    end_with_parent(setup["parent"])
    _end_with_run()
    there, back = setup["names"]
    link = Link(import_path(setup["store"]).for_link(back), import_path(setup["source"]).for_link(there))
    link.open()
    try:
        _serve(link, setup["origin"], definition)
    except (EndOfSource, SourceError):
        sys.exit("penstock: the run has ended, and so does this worker process")
    finally:
        link.close()


def _serve(link: Link, origin: str, definition: bytes) -> None:
    try:
        served = _served(origin, definition)
        words = served.open()
    except BaseException as error:  # a component may raise anything, SystemExit too: it is sent to the run
        link.send({"error": error_to_data(error)})
        return
    link.send(words)
    calls = served.calls()
    while True:
        message = link.receive(3600.0)
        if message is None:
            continue
        if message.words["call"] == "close":
            link.send(_closed(served))
            return
        try:
            given, records = calls[message.words["call"]](message)
        except BaseException as error:  # as above
            given, records = {"error": error_to_data(error)}, ()
        del message
        link.send(given, records)
        del given, records  # release shared memory before waiting


def _closed(served: WorkerComponent) -> Mapping[str, Any]:
    try:
        served.close()
    except BaseException as error:  # as in _serve
        return {**served.last_words(), "error": error_to_data(error)}
    return served.last_words()


def _served(origin: str, definition: bytes) -> WorkerComponent:
    from penstock.plugins import Plugins

    node: Node = pickle.loads(definition)
    part = attrs.evolve(resolve(node, Plugins()), origin=origin)
    if part.node.role == "source":
        from penstock.run.process.working.worker_source import WorkerSource

        return WorkerSource(part)
    if part.node.role == "store":
        from penstock.run.process.working.worker_store import WorkerStore

        return WorkerStore(part)
    from penstock.run.process.working.worker_step import WorkerStep

    return WorkerStep(part)


def _end_with_run() -> None:
    """End this process when the other end of its standard input is closed, as it is when the run's process ends.

    The component sees an empty standard input instead.
    """
    line = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        while os.read(line, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="penstock: end with the run", daemon=True).start()
