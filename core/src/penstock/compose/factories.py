"""The factories of nodes: `ps.source`, `ps.decoder`, `ps.processor` and `ps.store`.

The overloads tell editors and type checkers the settings of the built-in components. The settings of a plugin's
component are checked with the pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Unpack, overload

import penstock.decoder as decoder_contract
import penstock.processor as processor_contract
import penstock.source as source_contract
import penstock.store as store_contract
from penstock.compose import shapes
from penstock.compose.component_node import component_node
from penstock.compose.contract_docs import shows_contract
from penstock.compose.node import Node, OnError, Place
from penstock.compose.retry import Retry


@overload
def source(component: Literal["iterable"], /, **settings: Unpack[shapes.NamedIterableSettings]) -> Node: ...


@overload
def source(component: Literal["files"], /, **settings: Unpack[shapes.FilesSettings]) -> Node: ...


@overload
def source(component: Literal["dead-letters"], /, **settings: Unpack[shapes.DeadLettersSettings]) -> Node: ...


@overload
def source(
    component: str,
    /,
    *,
    name: str | None = None,
    workers: int = 1,
    ordered: bool = True,
    place: Place = "thread",
    retry: Retry | None = None,
    on_error: OnError = "dead_letter",
    expect_every_s: float | None = None,
    **settings: Any,
) -> Node: ...


@overload
def source(component: shapes.SourceShape, /, **options: Unpack[shapes.NodeOptions]) -> Node: ...


@overload
def source(component: Iterable[Any], /, **options: Unpack[shapes.IterableSettings]) -> Node: ...


@shows_contract(source_contract)
def source(
    component: Any,
    /,
    *,
    name: str | None = None,
    workers: int = 1,
    ordered: bool = True,
    place: Place = "thread",
    retry: Retry | None = None,
    on_error: OnError = "dead_letter",
    expect_every_s: float | None = None,
    **settings: Any,
) -> Node:
    """Make a source node from the name of a component and its settings, a component, or any iterable.

    Args:
        component: The name of a component ("files", "penstock-zenoh:zenoh"), an import path ("my.module:Camera"), an
            object with `open`, `read` and `close`, or an iterable, whose items become records. It is used as it is.
        name: The name in messages and reports; None: derived from the component's name when the pipeline is made.
        workers: Must be 1: a source is read by one thread.
        ordered: With several workers: whether records leave in the order in which they arrived.
        place: Where it works: in a "thread" of the run, or in a "process" of its own, one for each worker. Lists are
            sent there and back through shared memory (penstock-shm, Linux).
        retry: How often a failed call is retried; None: 3 tries to reopen it.
        on_error: The treatment of a record that failed for good: "dead_letter" keeps it in the run's dead letters,
            "skip" counts it, "stop" ends the run.
        expect_every_s: Seconds without a record from it, after which the watchdog reports the node; None: never.
        settings: The settings of the named component. For an iterable: `channel`, the channel of its records (None: the
            name of the node), and `reuses_buffers`, whether it overwrites arrays that it has yielded.

    Returns:
        A node, to join to others by `>>`.

    Raises:
        ConfigError: an option is wrong, or settings were passed with an object that has its own.
        WiringError: it is a class: pass an instance, or its name.
    """
    return component_node(
        "source",
        component,
        settings,
        name=name,
        workers=workers,
        ordered=ordered,
        place=place,
        retry=retry,
        on_error=on_error,
        expect_every_s=expect_every_s,
    )


@overload
def decoder(
    component: str,
    /,
    *,
    name: str | None = None,
    workers: int = 1,
    ordered: bool = True,
    place: Place = "thread",
    retry: Retry | None = None,
    on_error: OnError = "dead_letter",
    expect_every_s: float | None = None,
    **settings: Any,
) -> Node: ...


@overload
def decoder(component: shapes.DecoderShape, /, **options: Unpack[shapes.NodeOptions]) -> Node: ...


@overload
def decoder(
    component: Callable[..., shapes.DecoderShape],
    /,
    *,
    name: str | None = None,
    workers: int = 1,
    ordered: bool = True,
    place: Place = "thread",
    retry: Retry | None = None,
    on_error: OnError = "dead_letter",
    expect_every_s: float | None = None,
    **settings: Any,
) -> Node: ...


@shows_contract(decoder_contract)
def decoder(
    component: Any,
    /,
    *,
    name: str | None = None,
    workers: int = 1,
    ordered: bool = True,
    place: Place = "thread",
    retry: Retry | None = None,
    on_error: OnError = "dead_letter",
    expect_every_s: float | None = None,
    **settings: Any,
) -> Node:
    """Make a decoder node from the name of a component and its settings, a component, a class or a factory.

    Each channel has a decoder of its own: a copy of a component, made from its settings (an attrs class or a
    dataclass), or an object made by the class, or by a function without arguments.

    Args:
        component: The name of a component ("json", "av"), an import path, an object with `decode`, `flush` and
            `reset`, a class of such objects, or a function that makes one.
        name: The name in messages and reports; None: derived from the component's name when the pipeline is made.
        workers: The number of workers; each decodes channels of its own.
        ordered: With several workers: whether records leave in the order in which they arrived.
        place: Where it works: in a "thread" of the run, or in a "process" of its own, one for each worker. Lists are
            sent there and back through shared memory (penstock-shm, Linux).
        retry: How often a failed call is retried; None: one try.
        on_error: The treatment of a record that failed for good: "dead_letter" keeps it in the run's dead letters,
            "skip" counts it, "stop" ends the run.
        expect_every_s: Seconds without return from a call, after which the watchdog reports the node; None: 30 s.
        settings: The settings of the named component, or of the class.

    Returns:
        A node, to join to others by `>>`.

    Raises:
        ConfigError: an option is wrong, or settings were passed with an object that has its own.
        WiringError: the component cannot be a decoder.
    """
    return component_node(
        "decoder",
        component,
        settings,
        name=name,
        workers=workers,
        ordered=ordered,
        place=place,
        retry=retry,
        on_error=on_error,
        expect_every_s=expect_every_s,
    )


@overload
def processor(component: Literal["batch"], /, **settings: Unpack[shapes.BatchSettings]) -> Node: ...


@overload
def processor(component: Literal["align"], /, **settings: Unpack[shapes.AlignSettings]) -> Node: ...


@overload
def processor(component: Literal["filter"], /, **settings: Unpack[shapes.FilterSettings]) -> Node: ...


@overload
def processor(component: Literal["sample"], /, **settings: Unpack[shapes.SampleSettings]) -> Node: ...


@overload
def processor(component: Literal["rate"], /, **settings: Unpack[shapes.RateSettings]) -> Node: ...


@overload
def processor(component: Literal["split"], /, **settings: Unpack[shapes.SplitSettings]) -> Node: ...


@overload
def processor(
    component: str,
    /,
    *,
    name: str | None = None,
    workers: int = 1,
    ordered: bool = True,
    place: Place = "thread",
    retry: Retry | None = None,
    on_error: OnError = "dead_letter",
    expect_every_s: float | None = None,
    **settings: Any,
) -> Node: ...


@overload
def processor(
    component: type[Any],
    /,
    *,
    name: str | None = None,
    workers: int = 1,
    ordered: bool = True,
    place: Place = "thread",
    retry: Retry | None = None,
    on_error: OnError = "dead_letter",
    expect_every_s: float | None = None,
    **settings: Any,
) -> Node: ...


@overload
def processor(component: Callable[..., Any], /, **options: Unpack[shapes.NodeOptions]) -> Node: ...


@shows_contract(processor_contract)
def processor(
    component: Any,
    /,
    *,
    name: str | None = None,
    workers: int = 1,
    ordered: bool = True,
    place: Place = "thread",
    retry: Retry | None = None,
    on_error: OnError = "dead_letter",
    expect_every_s: float | None = None,
    **settings: Any,
) -> Node:
    """Make a processor node from the name of a component and its settings, a component, any callable, or a class.

    An object is used as it is. With `workers=n` each worker has a copy of it, made from its settings (an attrs class
    or a dataclass), or an object made by the class, or by a function without arguments; functions are called by all
    workers.

    A processor returns a record, a value (the `data` of a record like the one it was called with), a tuple
    `(coords, data, metadata)`, a list or iterator of these, or None to discard the record or keep it for later. A
    function of three arguments is called with `(coords, data, metadata)`.

    Args:
        component: The name of a component ("batch", "filter"), an import path, a function of the record or of
            `(coords, data, metadata)`, an object that can be called, a class of such objects, or a function that makes
            one.
        name: The name in messages and reports; None: derived from the component's name when the pipeline is made.
        workers: The number of workers.
        ordered: With several workers: whether records leave in the order in which they arrived.
        place: Where it works: in a "thread" of the run, or in a "process" of its own, one for each worker. Lists are
            sent there and back through shared memory (penstock-shm, Linux).
        retry: How often a failed call is retried; None: one try.
        on_error: The treatment of a record that failed for good: "dead_letter" keeps it in the run's dead letters,
            "skip" counts it, "stop" ends the run.
        expect_every_s: Seconds without return from a call, after which the watchdog reports the node; None: 30 s.
        settings: The settings of the named component, or of the class.

    Returns:
        A node, to join to others by `>>`.

    Raises:
        ConfigError: an option is wrong, or settings were passed with an object that has its own.
        WiringError: the component cannot be a processor.
    """
    return component_node(
        "processor",
        component,
        settings,
        name=name,
        workers=workers,
        ordered=ordered,
        place=place,
        retry=retry,
        on_error=on_error,
        expect_every_s=expect_every_s,
    )


@overload
def store(component: Literal["memory"], /, **settings: Unpack[shapes.MemorySettings]) -> Node: ...


@overload
def store(component: Literal["log"], /, **settings: Unpack[shapes.LogSettings]) -> Node: ...


@overload
def store(
    component: str,
    /,
    *,
    name: str | None = None,
    workers: int = 1,
    ordered: bool = True,
    place: Place = "thread",
    retry: Retry | None = None,
    on_error: OnError = "dead_letter",
    expect_every_s: float | None = None,
    **settings: Any,
) -> Node: ...


@overload
def store(component: shapes.StoreShape | shapes.StorageShape, /, **options: Unpack[shapes.NodeOptions]) -> Node: ...


@shows_contract(store_contract)
def store(
    component: Any,
    /,
    *,
    name: str | None = None,
    workers: int = 1,
    ordered: bool = True,
    place: Place = "thread",
    retry: Retry | None = None,
    on_error: OnError = "dead_letter",
    expect_every_s: float | None = None,
    **settings: Any,
) -> Node:
    """Make a store node from the name of a component and its settings, a component, or a storage of ExEngine's form.

    Args:
        component: The name of a component ("npy", "lmdb"), an import path, an object with `open`, `write`, `sync` and
            `close`, or a storage: an object with `put(coords, data, metadata)`, `get_data(coords)`,
            `get_metadata(coords)`, `finish` and `close`. It is used as it is.
        name: The name in messages and reports; None: derived from the component's name when the pipeline is made.
        workers: Must be 1: a store is written by one thread, to keep the order.
        ordered: With several workers: whether records leave in the order in which they arrived.
        place: Where it works: in a "thread" of the run, or in a "process" of its own, one for each worker. Lists are
            sent there and back through shared memory (penstock-shm, Linux).
        retry: How often a failed call is retried; None: 3 tries.
        on_error: The treatment of a record that failed for good: "dead_letter" keeps it in the run's dead letters,
            "skip" counts it, "stop" ends the run.
        expect_every_s: Seconds without return from a call, after which the watchdog reports the node; None: 30 s.
        settings: The settings of the named component.

    Returns:
        A node, to join to others by `>>`.

    Raises:
        ConfigError: an option is wrong, or settings were passed with an object that has its own.
        WiringError: it is a class: pass an instance, or its name.
    """
    return component_node(
        "store",
        component,
        settings,
        name=name,
        workers=workers,
        ordered=ordered,
        place=place,
        retry=retry,
        on_error=on_error,
        expect_every_s=expect_every_s,
    )
