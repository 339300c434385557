"""HERODataArchiver, ArrayArchiver, JsonArchiver: the archivers of herostools as thin pipelines."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import penstock as ps
from penstock.arguments import checks_arguments
from penstock.compose.resolve import resolve
from penstock.errors import ComponentLoadError, StoreError, UnknownComponentError
from penstock.record import Record
from penstock.report.run_report import RunReport
from penstock.store import Store
from penstock_zenoh.hero.event import Shape, as_array
from penstock_zenoh.hero.name_template import NameTemplate, path_template
from penstock_zenoh.hero.settings import retries, store_settings
from penstock_zenoh.hero.source import HeroSource

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 1.0
_INSTALL = "the archivers write their files with penstock-npy: `pip install penstock-npy`"


class HERODataArchiver:
    """Store each event of HEROs with `_store`, which a subclass implements; or use `ArrayArchiver`, `JsonArchiver`.

    It starts its own threads when it is created, and ends at `_stop` or `_teardown`, which store the waiting events. If
    `_store` raises, the event is retried up to `max_retries` times before the next one, then dead-lettered. While
    `_store` is slow, events wait, then senders wait as far as zenoh's congestion control allows.

    Args:
        object_selector: Name of a HERO, or a zenoh selector.
        event_name: Name of the event.
        default_metadata: Metadata for keys that an event lacks. Trusted: a value with a directory is not replaced.
        max_retries: Number of retries.
        realm: Realm of the HEROs.
        args: Must be empty; accepted because herostools has it.
        sequence_key: Metadata key that counts the events; the report counts its gaps as lost upstream.
        index: Directory for the accounts of acquisitions; None writes them to the report only.
        dead_letters: Directory for events that cannot be stored; created when first needed.
        listen: As of the `hero` source, as are `connect` and `config`. Without any of them, the environment variable
            HEROS_ZENOH_CONFIG is the complete configuration, as in heros.

    Attributes:
        metadata: The default metadata.
        report: The report of the run, after `_stop`.
    """

    @checks_arguments
    def __init__(
        self,
        object_selector: str,
        event_name: str,
        default_metadata: dict[str, Any] | None = None,
        max_retries: int = 5,
        realm: str = "heros",
        *args: Any,
        sequence_key: str | None = None,
        index: str | Path | None = None,
        dead_letters: str | Path = "penstock-dead-letters",
        listen: Sequence[str] | str | None = None,
        connect: Sequence[str] | str | None = None,
        config: Mapping[str, Any] | str | None = None,
    ) -> None:
        if args:
            raise TypeError(f"{type(self).__name__}: {len(args)} unexpected arguments: {args!r:.80}")
        self.metadata: dict[str, Any] = dict(default_metadata or {})
        self.max_retries = retries(max_retries)
        self.report: RunReport | None = None
        self._stopping = threading.Lock()
        self._source = HeroSource(
            object_selector=object_selector,
            event_name=event_name,
            realm=realm,
            default_metadata=self.metadata,
            sequence_key=sequence_key,
            index=index,
            describe=self._describes(),
            shape=self._shape(),
            listen=listen,
            connect=connect,
            config=config,
            heros_config=True,
        )
        component = self._component()
        times = 1 if isinstance(component, _Calls) else self.max_retries + 1
        retry = ps.Retry(times=times, wait_initial_s=_FIRST_WAIT_S)
        source = ps.source(self._source, name=object_selector)
        pipeline = ps.Pipeline(
            source >> ps.store(component, name="store", retry=retry),
            name=f"{type(self).__name__} {object_selector}",
            dead_letters=dead_letters,
        )
        self._run = pipeline.start()

    def feed(self, source_name: str, data: Iterable[Any], retry_count: int = 0) -> None:
        """Accept an event (data, metadata) as if the HERO `source_name` had sent it. Waits while the queue is full.

        A value of another shape is dead-lettered, as one from the network is. Raises RunError after `_stop`.
        `retry_count` is ignored; it is accepted because herostools has it.
        """
        self._source.feed(source_name, list(data) if isinstance(data, tuple) else data)

    def is_queue_drained(self) -> bool:
        """Return whether all events so far are stored or dead-lettered."""
        if self.report is not None:
            return True
        account = self._run.stats()
        given = account.node(self._source.object_selector)
        taken = account.node("store")
        done = taken.stored + taken.dead_lettered + taken.skipped + taken.failed + given.dead_lettered
        return not self._source.lag() and done >= given.received

    def _stop(self) -> None:
        """Accept no more events, store the waiting ones, and end. May be called repeatedly."""
        with self._stopping:
            if self.report is None:
                self.report = self._run.stop()

    def _teardown(self) -> None:
        """Call `_stop`; BOSS calls this method."""
        self._stop()

    def __enter__(self) -> HERODataArchiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _store(self, source_name: str, payload: Any, metadata: dict[str, Any]) -> None:
        """Store one event; an exception is an error of this event. Implemented by subclasses."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _store(source_name, payload, metadata)")

    def _component(self) -> Any:
        """Return the store of the pipeline."""
        return _Calls(self)

    def _describes(self) -> bool:
        """Return whether HERO, event and time are added to the metadata of an event."""
        return False

    def _shape(self) -> Shape:
        """Return the shape of an event, as of the `hero` source."""
        return "pair"


class _Calls:
    """A store that passes each record to `_store` of an archiver."""

    takes: ClassVar[str] = "any"

    @checks_arguments
    def __init__(self, archiver: HERODataArchiver) -> None:
        self._archiver = archiver

    def open(self) -> None:
        """Do nothing: the archiver is already usable."""

    def write(self, records: Sequence[Record]) -> None:
        """Store the records one by one; a failing one is retried before the next, then fails alone."""
        failed: list[tuple[Record, BaseException]] = []
        for record in records:
            error = self._tried(record)
            if error is not None:
                failed.append((record, error))
        if failed:
            raise StoreError(f"_store: {failed[0][1]}", failed=failed, retryable=False) from failed[0][1]

    def _tried(self, record: Record) -> BaseException | None:
        """Call `_store` until it succeeds; return its last error if all tries fail."""
        name = str(record.metadata.get("source_name", record.channel))
        for attempt in range(self._archiver.max_retries + 1):
            if attempt:
                time.sleep(min(_FIRST_WAIT_S * 2 ** (attempt - 1), _LONGEST_WAIT_S))
            try:
                self._archiver._store(name, record.data, dict(record.metadata))
            except Exception as error:  # raised by the user's code
                last: BaseException = error
            else:
                return None
        return last

    def sync(self) -> None:
        """Do nothing: `_store` has stored."""

    def close(self) -> None:
        """Do nothing."""


class _FileArchiver(HERODataArchiver):
    """The base of the two file archivers, whose files a store of penstock-npy writes."""

    _use: ClassVar[str]

    @checks_arguments
    def __init__(
        self, save_template: str, when_exists: str, options: Mapping[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        self._when_exists = when_exists
        self._options = options
        self._own: Store | None = None
        defaults = kwargs.get("default_metadata") or (args[2] if len(args) > 2 else None) or {}
        self._path = path_template(save_template, defaults, f".{self._use}")
        self.name_template = NameTemplate(save_template)
        super().__init__(*args, **kwargs)

    def _store(self, source_name: str, payload: Any, metadata: dict[str, Any]) -> None:
        """Write one file, whose name the template makes from these metadata."""
        if self._own is None:
            self._own = self._files()
            self._own.open()
        beside = {"source_name": source_name, "event": self._source.event_name, "realm": self._source.realm}
        if self._keeps_metadata():
            beside = {}
        self._own.write([Record(payload, channel=source_name, metadata={**beside, **metadata})])

    def _stop(self) -> None:
        super()._stop()
        if self._own is not None:
            self._own.close()

    def _files(self) -> Store:
        settings = store_settings(self._use, self._path, self._when_exists, self._options)
        try:
            return cast(Store, resolve(ps.store(self._use, **settings), ps.Plugins.discover()).make())
        except UnknownComponentError as error:
            raise ComponentLoadError(f"{type(self).__name__}: {_INSTALL}") from error

    def _component(self) -> Any:
        return _Calls(self) if self._has_own_store() else self._files()

    def _has_own_store(self) -> bool:
        """Return whether a subclass implements `_store`: it is called with the metadata that herostools' has."""
        return type(self)._store not in (_FileArchiver._store, ArrayArchiver._store)

    def _describes(self) -> bool:
        return not (self._has_own_store() or self._keeps_metadata())

    def _keeps_metadata(self) -> bool:
        """Return whether the files hold the metadata."""
        return False


class ArrayArchiver(_FileArchiver):
    """Write the array of each event as one `.npy` file, atomically. Lists of numbers, and numbers, become arrays.

    Args:
        save_template: jinja2 template of the file names, with the metadata, `source_name`, `channel`, `seq`, `time`.
        split_data_array: True writes each sub-array of axis 0 to its own file, with its index as `_split_index`.
        args: As of `HERODataArchiver`.
        when_exists: "error" dead-letters an event whose file exists; "number", "replace" and "skip" as of the store.
        kwargs: As of `HERODataArchiver`.
    """

    _use = "npy"

    @checks_arguments
    def __init__(
        self, save_template: str, split_data_array: bool = False, *args: Any, when_exists: str = "error", **kwargs: Any
    ) -> None:
        self.split_data_array = bool(split_data_array)
        super().__init__(save_template, when_exists, {"split": self.split_data_array}, *args, **kwargs)

    def _store(self, source_name: str, payload: Any, metadata: dict[str, Any]) -> None:
        """Write one file, or one for each sub-array, whose names the template makes from these metadata."""
        super()._store(source_name, as_array(payload), metadata)

    def _shape(self) -> Shape:
        return "pair" if self._has_own_store() else "arrays"


class JsonArchiver(_FileArchiver):
    """Write the data of each event as one `.json` file, atomically.

    Args:
        save_template: As of `ArrayArchiver`.
        merge_metadata: True also writes the metadata to the file, under the key "metadata".
        args: As of `HERODataArchiver`.
        when_exists: As of `ArrayArchiver`.
        kwargs: As of `HERODataArchiver`.
    """

    _use = "json"

    @checks_arguments
    def __init__(
        self, save_template: str, merge_metadata: bool = False, *args: Any, when_exists: str = "error", **kwargs: Any
    ) -> None:
        self.merge_metadata = bool(merge_metadata)
        super().__init__(save_template, when_exists, {"merge_metadata": self.merge_metadata}, *args, **kwargs)

    def _keeps_metadata(self) -> bool:
        return self.merge_metadata
