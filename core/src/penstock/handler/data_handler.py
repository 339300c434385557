"""DataHandler: put and get data by coordinates while they are being processed and stored."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from penstock.arguments import checks_arguments
from penstock.buffers import BufferWatch
from penstock.builtin.push import PutTimeoutError, WhenFull
from penstock.compose.factories import processor, source, store
from penstock.compose.node import Edge, Flow
from penstock.compose.pipeline import Pipeline
from penstock.compose.policies import Block, DropNewest, DropOldest
from penstock.compose.resolve import ResolvedNode
from penstock.coords import DataCoordinates
from penstock.error_text import remedy_for, shown, text_of
from penstock.errors import ConfigError, PluginError, RecordFieldError, RunError, WiringError
from penstock.handler.admission import Admission
from penstock.handler.errors import DataTimeoutError
from penstock.handler.events import Callback, Event, Events
from penstock.handler.ledger import Ledger, WhenExists
from penstock.handler.nodes import instead, put_source, resolved
from penstock.handler.owning import own
from penstock.handler.reading import Reading
from penstock.handler.reporting_run import start_reporting
from penstock.handler.watched import WatchedProcessor, WatchedStore
from penstock.plugins.current import installed_plugins
from penstock.record import Record
from penstock.report.account import Account
from penstock.report.run_report import RunReport

if TYPE_CHECKING:
    from penstock.plugins import Plugins

_log = logging.getLogger("penstock.handler")

CALLBACKS_S: Final = 5.0
"""Seconds that the end of a handler waits for callbacks with pending events."""
_DROPPED: Final = "they were dropped, since the handler was full"

Found = tuple[Any, Mapping[str, Any] | None]


class DataHandler:
    """Accept data by coordinates, process and store them, and return them at any moment.

    It runs a pipeline, `push >> process_function >> storage`. From the moment when `put` returns, the data can
    be read: from memory until the store has written them, then from the store, until `close`. All methods may be called
    from any thread; `finish`, `abort` and `close` not from the processor. A record that fails for good goes to the dead
    letters; reading it raises DataFailedError. After a crash, data that were put and not stored are lost.

    Args:
        storage: A store: a component, the name of one, or a node (`ps.store("npy", path=…)`), whose `retry` and
            `on_error` apply. A component is used as it is: the handler opens and closes it. `get` reads it in the
            caller's thread; if it cannot be read, data are available only as long as they are in memory. A storage in
            ExEngine's form (`put`, `get_data`, `get_metadata`, `finish`, `close`) is accepted, too. If a store keeps no
            metadata, a warning is logged: data read from it have none.
        process_function: A function `(coords, data, metadata)` that returns such a tuple, a list of them, or None to
            discard or keep for later; or any processor, or a node (`ps.processor(fn, workers=2)`), called in its own
            thread. Such a function may write into `data` and `metadata`, which are private copies;
            `DataProcessor(fn, in_place=False)` omits the copy of an array. None stores the data as they were put.
        process_fn: Another name for `process_function`.
        capacity: The most records that wait for the processor, and the most that wait for the store.
        capacity_bytes: The most bytes of their data, approximately, at each of the two.
        when_full: What `put` does when it is full, as a word or a policy (`ps.DropOldest()`): "block" waits,
            "drop_oldest" and "drop_newest" drop, which the report counts as lost.
        when_exists: The action for coordinates that exist already, in the handler or in the store: "error"
            raises RecordExistsError (in the processor: the record is dead-lettered), "skip" keeps the old data,
            "replace" replaces them, in the store too.
        name: Its name in threads, errors and the report; the channel of its records.
        dead_letters: The directory for records that failed for good, made when first needed; None: that of `Pipeline`.
        reuses_buffers: Whether callers reuse an array that they have put: True copies each, False none.
            None: the first 16 are copied, to detect whether their memory is reused; if it is, each is copied.
        plugins: The plugins that offer components; None: those installed.

    Raises:
        ConfigError, WiringError, PluginError: an argument is wrong; before anything opens.
        RunError: the store or the processor could not be opened.
    """

    @checks_arguments
    def __init__(
        self,
        storage: Any,
        process_function: Any = None,
        *,
        process_fn: Any = None,
        capacity: int = 1024,
        capacity_bytes: int = 64 * 2**20,
        when_full: WhenFull | Block | DropOldest | DropNewest = "block",
        when_exists: WhenExists = "error",
        name: str = "data",
        dead_letters: str | Path | None = None,
        reuses_buffers: bool | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        if process_function is not None and process_fn is not None:
            raise ConfigError("pass process_function or process_fn, which are the same, not both")
        process_function = process_fn if process_function is None else process_function
        self._push = put_source(name, capacity=capacity, capacity_bytes=capacity_bytes, when_full=when_full)
        plugins = installed_plugins() if plugins is None else plugins
        self.name = name
        self._buffers = BufferWatch(reuses_buffers, f"handler {name!r}")
        self._events = Events(name)
        self._ledger = Ledger(
            name, processes=process_function is not None, when_exists=when_exists, events=self._events
        )
        storing = resolved("storage", storage, store, plugins)
        inner = storing.sample if storing.node.given is None else storing.node.given
        self._store = WatchedStore(inner, self._ledger)
        self._reading = Reading(name, self._ledger, self._store)
        flow = Flow.of(source(self._push, name="put"))
        if process_function is not None:
            doing = resolved("process_function", process_function, processor, plugins)
            flow >>= instead(
                doing, partial(WatchedProcessor, make=doing.make, ledger=self._ledger, look_up=self._reading.look_up)
            )
            flow >>= Edge(capacity=capacity, capacity_bytes=capacity_bytes)
        options: dict[str, Any] = {} if dead_letters is None else {"dead_letters": dead_letters}
        self._pipeline = Pipeline(flow >> instead(storing, self._store), name=name, **options)
        self._over = ""
        self._closing = threading.Lock()
        self._admission = Admission(
            name, ledger=self._ledger, reading=self._reading, store=self._store, stores_as_put=process_function is None
        )
        self._put, self._admit, self._may_put = self._push.inlet.put, self._admission.admit, self._admission.may_put
        self._push.inlet.on_drop = self._dropped
        try:
            self._run = start_reporting(self._pipeline, plugins, failed=self._failed, finished_at_exit=self.close)
            try:
                if self._store.reads:
                    self._admission.begin(len(inner))
            except BaseException:
                self._run.stop(drain=False)
                raise
        except (WiringError, ConfigError, PluginError):  # nothing was opened, so the component may be used elsewhere
            raise
        except BaseException:  # closing never hides the first error
            with contextlib.suppress(BaseException):
                inner.close()
            raise
        self._watcher = threading.Thread(target=self._watch, name=f"penstock {name}: handler", daemon=True)
        self._watcher.start()

    # -- in ------------------------------------------------------------------------------------------------------------

    def put(
        self,
        coords: Mapping[str, Any],
        data: Any,
        metadata: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        reuses_buffers: bool | None = None,
    ) -> bool:
        """Put data. The handler owns them from now on: do not change them, unless `reuses_buffers` is True.

        Args:
            coords: Their coordinates.
            data: Anything that the processor and the store accept; usually an array.
            metadata: Their metadata.
            timeout_s: Seconds to wait for room; 0 does not wait; None waits for ever.
            reuses_buffers: True copies these data, False does not; None: the handler's setting.

        Returns:
            True if they were accepted; False if `when_exists="skip"` or `when_full="drop_newest"` dropped them.

        Raises:
            CoordinatesError, RecordFieldError: the coordinates or the metadata are invalid.
            RecordExistsError: data of these coordinates exist, and `when_exists` is "error".
            DataTimeoutError: there was no room in time; nothing was put.
            RunError: the handler is finished, or has failed.
            BufferReusedError: the memory of data in flight was put again; nothing was put.
        """
        if type(coords) is not DataCoordinates:
            coords = DataCoordinates(coords)
        if self._reading.held_before:
            self._reading.look_up(coords)
        if metadata is not None and type(metadata) is not dict and not isinstance(metadata, Mapping):
            raise RecordFieldError(
                f"metadata={shown(metadata)} of {coords!r}: must be a mapping, as in {{'exposure': 5}}"
            )
        data, known, size_bytes = own(self._buffers, data, metadata, reuses_buffers)
        try:
            taken = self._put(
                size_bytes,
                self._admit,
                data,
                coords,
                known,
                time.time_ns(),
                timeout_s=timeout_s,
                channel=self.name,
                is_of_use=self._may_put,
            )
        except PutTimeoutError as error:
            raise DataTimeoutError(
                f"handler {self.name!r}: the data of {coords!r} were not accepted: {error}"
            ) from None
        except RunError as error:
            why = self._over or "it is finished"
            raise RunError(f"handler {self.name!r}: the data of {coords!r} were not accepted: {why}") from error
        if not taken:  # coordinates that have data were skipped, and are not reported
            self._ledger.refused(coords, _DROPPED)
        return taken

    # -- out -----------------------------------------------------------------------------------------------------------

    def get(
        self,
        coords: Mapping[str, Any],
        return_data: bool = True,
        return_metadata: bool = True,
        processed: bool | None = None,
        timeout_s: float | None = 0.0,
    ) -> Found:
        """Return the data and the metadata of these coordinates, from memory or from the store.

        Args:
            coords: All axes of one record.
            return_data: Whether to return the data; None takes their place if not.
            return_metadata: The same for the metadata.
            processed: True: only results of the processor; False: only data as put, which are discarded once
                processed; None: whichever exists.
            timeout_s: Seconds to wait for them; 0 does not wait; None waits for ever.

        Returns:
            (data, metadata). Arrays from memory are read-only.

        Raises:
            ObjectNotFoundError: there are no such data and `timeout_s` is 0, or none can come any more.
            DataTimeoutError: no such data arrived in time.
            DataDiscardedError: the processor returned nothing for them.
            DataFailedError: they failed for good.
            CannotGetObjectError: they are stored, but the store cannot read them.
            RunError: the handler is closed.
            ConfigError: `processed=True`, and there is no processor.
        """
        record = self._reading.one(coords, processed, timeout_s)
        return (record.data if return_data else None), (record.metadata if return_metadata else None)

    def get_data(self, coords: Mapping[str, Any]) -> Any:
        """Return the data of these coordinates, as `get` and `handler[coords]` do."""
        return self.get(coords, return_metadata=False)[0]

    __getitem__ = get_data

    def get_metadata(self, coords: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the metadata of these coordinates, as `get` does."""
        return self.get(coords, return_data=False)[1] or {}

    @checks_arguments
    def await_data(
        self,
        coords: Mapping[str, Any] | Iterable[Mapping[str, Any]],
        timeout_s: float | None = None,
        *,
        return_data: bool = True,
        return_metadata: bool = True,
        processed: bool | None = None,
        stored: bool = False,
    ) -> Any:
        """Wait for the data of these coordinates, and return them.

        Args:
            coords: Coordinates, or a list or an iterator of them; those of an iterator are awaited one by one, so that
            the
                call never returns for an infinite one.
            timeout_s: Seconds to wait for all of them together; None waits for ever.
            return_data: As in `get`.
            return_metadata: As in `get`.
            processed: As in `get`.
            stored: Wait until they are in the store, and return them from there.

        Returns:
            (data, metadata), or a list of these, in the order of `coords`.

        Raises:
            DataTimeoutError: not all arrived in time; it names the first that did not.
            DataDiscardedError, DataFailedError, ObjectNotFoundError: they cannot come any more; also as `get`.
        """
        one = isinstance(coords, Mapping)
        several: Iterable[Any] = [coords] if one else coords
        read = return_data or return_metadata
        found = [
            (record.data if return_data else None, record.metadata if return_metadata else None)
            for record in self._reading.several(several, processed, timeout_s, stored=stored, read=read)
        ]
        return found[0] if one else found

    def __contains__(self, coords: object) -> bool:
        """Return whether there are data of these coordinates now, in memory or in the store."""
        return self._reading.holds(coords)

    # -- events and the end --------------------------------------------------------------------------------------------

    def subscribe(self, event: Event, callback: Callback) -> Callable[[], None]:
        """Call `callback(coords)` for each event from now on; return a function that ends it.

        Args:
            event: "acquired" (put), "processed" (returned by the processor), or "stored" (readable from the
                store; it is durable when the handler is finished).
            callback: Called in a thread of its own, in order. Its errors are logged. For a callback slower than the
                events, up to 10,000 wait; then the oldest are dropped, and counted in the log.

        Raises:
            ConfigError: there is no such event.
        """
        return self._events.subscribe(event, callback)

    def stats(self) -> Account:
        """Return the statistics so far."""
        return self._run.stats()

    def finish(self, timeout_s: float | None = None) -> RunReport:
        """Accept no more data, store everything durably, and return the report. Reading works until `close`.

        Args:
            timeout_s: Seconds to wait; None waits for ever. May be called again.

        Raises:
            DataTimeoutError: not everything was stored in time; storing continues.
        """
        self._over = self._over or "it is finished"
        self._push.end()
        report = self._run.wait(timeout_s)
        if report is None:
            raise DataTimeoutError(f"handler {self.name!r}: not everything was stored within {timeout_s:g} s")
        return self._ended(report)

    def abort(self) -> RunReport:
        """End at once, and return the report: data that are not stored are lost, and counted there."""
        self._over = self._over or "it was aborted"
        self._push.end()
        return self._ended(self._run.stop(drain=False))

    def close(self) -> None:
        """Finish, and close the store. May be called repeatedly."""
        self.finish()
        with self._closing:
            if not self._reading.closed:
                self._reading.closed = True
                self._store.close_inner()

    def __enter__(self) -> DataHandler:
        self._run.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = self._over or "it is finished"
        try:
            self._run.__exit__(kind, error, trace)
        finally:
            if self._run.finished:
                try:
                    self.close()
                except BaseException as closing:  # it must not hide the error of the body
                    if error is None:
                        raise
                    _log.error("handler %r: its store could not be closed: %s", self.name, text_of(closing))

    def __repr__(self) -> str:
        state = "closed" if self._reading.closed else self._over or "at work"
        return f"DataHandler({self.name!r}: {' >> '.join(node.name or '' for node in self._pipeline.nodes)}; {state})"

    def _ended(self, report: RunReport) -> RunReport:
        self._watcher.join()
        self._events.join(CALLBACKS_S)
        return report

    def _watch(self) -> None:
        """Wait for the end of the run, successful or not, and notify all waiters."""
        report = self._run.wait()
        assert report is not None  # wait() without a timeout returns a report
        if report.aborted or report.errors:
            self._over = "; ".join(report.errors) or "it was aborted"
        self._over = self._over or "its run is over"
        self._ledger.end(self._over)
        self._events.end()

    def _failed(self, resolved: ResolvedNode, record: Record, error: BaseException) -> None:
        """Record a failure for good; called in the lane of the component."""
        why = f"{resolved.where} failed: {text_of(error)}{remedy_for(record, error)}"
        self._ledger.failed(record, why, stored=resolved.node.role == "store")

    def _dropped(self, record: Record) -> None:
        self._ledger.failed(record, _DROPPED, stored=False)
