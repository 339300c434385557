"""Comux: reads, decodes and batches cameras on Kafka, and sends results back, with the method names of comux."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from penstock.arguments import checks_arguments
from penstock.errors import ConfigError, ObjectNotFoundError, PenstockError
from penstock_kafka_av.comux.camera import Camera, check_decoding
from penstock_kafka_av.comux.client_options import renamed
from penstock_kafka_av.comux.log_level import set_log_level
from penstock_kafka_av.kafka.source import KafkaSource
from penstock_kafka_av.kafka.store import KafkaStore
from penstock_kafka_av.kafka.topics import Schema

if TYPE_CHECKING:
    from penstock_kafka_av.comux.control import Control

_log = logging.getLogger("penstock.comux")
Frame = tuple[str, int, Any]


class Comux:
    """Read cameras from Kafka topics, decode them, and send results back. Each camera has its own pipeline.

    There are two ways to build it, as in comux: `Comux(cam_ids, consume_schema, produce_schema, log_level)` with the
    `setup_…` methods, or `Comux(cam_ids, bootstrap_servers, control_topic, control_bootstrap_servers, acts, …)`, which
    connects the control topic at once, and the cameras with `connect_all`.

    A frame is `(cam_id, index, array)`: the array is (height, width, 3) uint8 bgr24, or None if decoding failed; the
    index is the offset of its packet, or, with B-frames, the place at which it is shown among the offsets of its GOP.
    While no frames are taken, the camera is not read; if it lags more than `max_offset_diff` messages behind, it skips
    to the end, and resumes at the next keyframe.

    Args:
        cam_ids: The cameras; numbers are taken as text.
        args: The other positional arguments of one of the two forms.
        consume_schema: Names of the topics to read, with ":cam_id" (or "{{ channel }}") for the camera.
        produce_schema: Names of the topics to send to.
        log_level: Level of the loggers "penstock.comux" and "penstock.kafka".
        bootstrap_servers: Brokers of the cameras.
        control_topic: The config topic.
        control_bootstrap_servers: Brokers of the config topic.
        acts: Names to functions of (comux, value).
        end: Begin at the end of the topics, rather than at their first messages.
        max_offset_diff: Number of messages that a camera may lag behind.
        strict_on_fail: Raise errors, rather than log them.
        over_write: Replace a camera that is connected already, rather than keep it.
        options: Options of the Kafka client.
    """

    @checks_arguments
    def __init__(
        self,
        cam_ids: Sequence[str | int],
        *args: Any,
        consume_schema: str = "raw_:cam_id",
        produce_schema: str = "stream_:cam_id",
        log_level: str | int | None = None,
        bootstrap_servers: Any = None,
        control_topic: str | None = None,
        control_bootstrap_servers: Any = None,
        acts: Mapping[str, Callable[[Comux, Any], Any]] | None = None,
        end: bool = True,
        max_offset_diff: int | None = 20,
        strict_on_fail: bool = True,
        over_write: bool = False,
        **options: Any,
    ) -> None:
        if args and isinstance(args[0], str) and (":cam_id" in args[0] or "{{" in args[0]):
            given = (*args, consume_schema, produce_schema, log_level)
            consume_schema, produce_schema, log_level = (*args, *given[len(args) + len(args) :])[:3]
        elif args:
            defaults = (
                bootstrap_servers, control_topic, control_bootstrap_servers, acts,
                end, max_offset_diff, strict_on_fail, over_write,
            )  # fmt: skip
            if len(args) > len(defaults):
                raise TypeError(f"Comux takes at most {len(defaults) + 1} positional arguments, not {len(args) + 1}")
            bootstrap_servers, control_topic, control_bootstrap_servers, acts = (*args, *defaults[len(args) :])[:4]
            end, max_offset_diff, strict_on_fail, over_write = (*args, *defaults[len(args) :])[4:]
        self.cam_ids = [str(each) for each in cam_ids]
        self.consumers: dict[str, KafkaSource] = {}
        self.threads: dict[str, Any] = {}
        self.control: Control | None = None
        self.bootstrap_servers = bootstrap_servers
        self.end, self.max_offset_diff = end, max_offset_diff
        self.strict_on_fail, self.over_write = strict_on_fail, over_write
        self.consumer_options = dict(options)
        self._consume, self._produce = Schema(consume_schema), Schema(produce_schema)
        self._cameras: dict[str, Camera] = {}
        self._decoding: dict[str, Any] = {"codec": "h264"}
        self._producer: KafkaStore | None = None
        self._sends_strictly = True
        self._arrived = threading.Condition()
        self._changing = threading.RLock()
        self._sending = threading.Lock()
        self._started = False
        set_log_level(log_level)
        if control_topic is not None:
            self.setup_controller(control_topic, control_bootstrap_servers or bootstrap_servers, acts or {})

    # Setup.

    def setup_consumers(
        self,
        bootstrap_servers: Any,
        overwrite: bool = True,
        end: bool = True,
        max_offset_diff: int | None = 20,
        strict_on_fail: bool = True,
        over_write: bool = False,
        **options: Any,
    ) -> None:
        """Connect to all cameras, to read messages from now on. Raises SourceError if `strict_on_fail`."""
        self.bootstrap_servers, self.end, self.max_offset_diff = bootstrap_servers, end, max_offset_diff
        self.strict_on_fail, self.over_write, self.consumer_options = strict_on_fail, over_write, dict(options)
        for cam_id in list(self.cam_ids):
            self.connect(cam_id, overwrite)

    def setup_controller(
        self, topic: str, bootstrap_servers: Any, acts: Mapping[str, Callable[[Comux, Any], Any]], **options: Any
    ) -> None:
        """Read the config topic from now on, in place of an earlier one. Raises SourceError."""
        from penstock_kafka_av.comux.control import Control

        if self.control is not None:
            self.control.kill()
        self.control = Control(topic, bootstrap_servers, acts, self, **options)

    def setup_decoders(
        self,
        rate: float | None = None,
        W: int | None = None,  # noqa: N803 - the name that users of comux write
        H: int | None = None,  # noqa: N803 - likewise
        de_codec: str = "h264",
        pix_fmt: str | None = None,
        *,
        pixel_format: str = "bgr24",
        packets: str = "whole",
        **settings: Any,
    ) -> None:
        """Set the decoder's settings for cameras that start from now on.

        Args:
            rate: Frames per second of the cameras. As in comux, no frame is left out because of it; it gives the frames
                of a "stream" their times.
            W: Width in pixels, needed only by codecs whose packets do not contain it.
            H: Height in pixels, as `W`.
            de_codec: Codec of the packets.
            pix_fmt: Pixel format of the encoder; ignored, since the stream contains it.
            pixel_format: Pixel format of the arrays.
            packets: "whole" if each message is one packet, "stream" if the stream is split at arbitrary bytes.
            settings: Further settings of the decoder `av`.
        """
        decoding = {
            "codec": de_codec, "rate": rate if packets == "stream" else None, "width": W, "height": H,
            "pixel_format": pixel_format, "packets": packets, **settings,
        }  # fmt: skip
        check_decoding(decoding)
        self._decoding = decoding

    def setup_producer(
        self, bootstrap_servers: Any, strict_on_fail: bool = True, over_write: bool = False, **options: Any
    ) -> None:
        """Connect the producer; an existing one is kept unless `over_write`. Raises CannotConnectToStoreError."""
        if self._producer is not None and not over_write:
            return
        self._sends_strictly = strict_on_fail
        made = KafkaStore(
            bootstrap_servers=bootstrap_servers, topic=self._produce.text, payload="parent", options=renamed(options)
        )
        try:
            made.open()
        except PenstockError as error:
            self._failed(error, is_strict=strict_on_fail)
            return
        previous, self._producer = self._producer, made
        if previous is not None:
            previous.close()

    # Cameras.

    def connect(self, cam_id: str, overwrite: bool | None = None) -> None:
        """Connect to a camera; one that is connected already is replaced with `overwrite`, and kept without.

        Raises:
            ConfigError: there are no bootstrap_servers.
            SourceError: no broker answers, and `strict_on_fail` is set; else the error is logged.
        """
        cam_id = str(cam_id)
        if self.bootstrap_servers is None:
            raise ConfigError("comux: there are no bootstrap_servers: call setup_consumers(bootstrap_servers) first")
        with self._changing:
            if cam_id in self._cameras:
                if not (self.over_write if overwrite is None else overwrite):
                    return
                self.kill(cam_id)
            try:
                kafka = KafkaSource(
                    bootstrap_servers=self.bootstrap_servers, schema=self._consume.text, channels=[cam_id],
                    start="end" if self.end else "beginning", max_lag=self.max_offset_diff, refresh_s=1.0,
                    options=renamed(self.consumer_options),
                )  # fmt: skip
                camera = Camera.connect(cam_id, kafka, self._arrived)
            except PenstockError as error:
                self._failed(error, is_strict=self.strict_on_fail)
                return
            with self._arrived:
                self._cameras[cam_id] = camera
            self.consumers[cam_id] = kafka
            if cam_id not in self.cam_ids:
                self.cam_ids.append(cam_id)

    def connect_all(self) -> None:
        """Connect to all cameras; see `connect`."""
        for cam_id in list(self.cam_ids):
            self.connect(cam_id)

    def listen(self, consumer: Any) -> None:
        """Read and decode a camera, given by id or consumer, in separate threads. Raises ObjectNotFoundError."""
        with self._changing:
            camera = next(
                (each for each in self._cameras.values() if consumer in (each.cam_id,) or consumer is each.kafka), None
            )
            if camera is None:
                raise ObjectNotFoundError(f"comux: no camera {consumer!r} is connected: call connect(cam_id) first")
            camera.listen(self._decoding)
            self.threads[camera.cam_id] = camera.run
            with self._arrived:
                self._arrived.notify_all()

    def start(self) -> None:
        """Read and decode all connected cameras."""
        self._started = True
        for cam_id in list(self._cameras):
            self.listen(cam_id)

    def kill(self, cam_id: str | None = None) -> None:
        """Stop and disconnect one camera, or without an id everything: cameras, control and producer."""
        if cam_id is None:
            control, self.control = self.control, None
            if control is not None:
                control.kill()
            for each in list(self._cameras):
                self.kill(each)
            producer, self._producer = self._producer, None
            if producer is not None:
                producer.close()
            return
        with self._changing:
            with self._arrived:
                camera = self._cameras.pop(str(cam_id), None)
                self._arrived.notify_all()
            self.consumers.pop(str(cam_id), None)
            self.threads.pop(str(cam_id), None)
            if camera is None:
                _log.warning("comux: no camera %r to kill", cam_id)
                return
            camera.kill()

    def create(self, cam_id: str) -> str:
        """Connect to a camera, and read it if `start` was called: the action `create`."""
        self.connect(cam_id)
        if self._started:
            self.listen(str(cam_id))
        return f"reading camera {cam_id} from {self.get_topic_from_cam_id(cam_id)}"

    def update(self, cam_id: str) -> str:
        """Reconnect a camera with the current settings: the action `update`."""
        self.connect(cam_id, True)
        if self._started:
            self.listen(str(cam_id))
        return f"camera {cam_id} was restarted"

    def delete(self, cam_id: str) -> str:
        """Stop a camera and forget it: the action `delete`. Raises ObjectNotFoundError."""
        if str(cam_id) not in self._cameras:
            raise ObjectNotFoundError(f"comux: there is no camera {cam_id!r}")
        self.kill(cam_id)
        self.cam_ids = [each for each in self.cam_ids if each != str(cam_id)]
        return f"camera {cam_id} was stopped"

    # Frames.

    def get(self, cam_id: str, timeout: float | None = None) -> Frame | None:
        """Return the oldest frame of a camera, or None after `timeout` seconds; without a timeout, wait for ever.

        Raises:
            ObjectNotFoundError: there is no such camera.
        """
        with self._arrived:
            if str(cam_id) not in self._cameras:
                raise ObjectNotFoundError(f"comux: there is no camera {cam_id!r}")
            self._arrived.wait_for(lambda: self._has_frame(str(cam_id)) is not False, timeout)
            found = self._take([str(cam_id)], frame=False)
            return found[0] if found else None

    def get_batch(self, frame: bool = False, timeout: float | None = None) -> list[Frame] | None:
        """Return one frame of every running camera: `[(cam_id, index, array), …]`.

        A batch waits up to a second, and up to `timeout`, for cameras without a frame, and then leaves them out. Later
        batches do not wait for such a camera until it has a frame again, so it does not slow down the others.

        Args:
            frame: Return the whole record in place of the array. A number is taken as `timeout`.
            timeout: Seconds to wait; None waits for ever.

        Returns:
            The batch, or None if no camera had a frame in time.
        """
        if not isinstance(frame, bool):
            frame, timeout = False, frame
        ends = math.inf if timeout is None else time.monotonic() + timeout
        with self._arrived:
            self._arrived.wait_for(lambda: any(each.waiting.has_frame() for each in self._running()), timeout)
            while patience := max((each.patience_left() for each in self._running()), default=0.0):
                if not self._arrived.wait(max(0.0, min(patience, ends - time.monotonic()))):
                    break
            return self._take([each.cam_id for each in self._running()], frame=frame) or None

    def _running(self) -> list[Camera]:
        return [each for each in self._cameras.values() if each.run is not None]

    def _has_frame(self, cam_id: str) -> bool | None:
        camera = self._cameras.get(cam_id)
        return None if camera is None else camera.waiting.has_frame()

    def _take(self, cam_ids: Sequence[str], *, frame: bool) -> list[Frame]:
        taken: list[Frame] = []
        for cam_id in cam_ids:
            camera = self._cameras.get(cam_id)
            record = None if camera is None else camera.take()
            if record is not None:
                taken.append((cam_id, record.seq, record if frame else record.data))
        return taken

    def send(self, cam_id: str, index: int, headers: Mapping[str, Any] | None = None) -> None:
        """Produce the packet of a frame again, with results as headers; return when the broker has acknowledged it.

        Text and bytes are sent unchanged, other values as JSON; partition, key and headers of the packet are kept.

        Raises:
            ObjectNotFoundError: the frame with this index is not among the last 512 returned ones of the camera.
            ConfigError: there is no producer, or `headers` is not a dict.
            StoreError: the broker did not acknowledge it.

        Without `strict_on_fail`, errors are logged instead.
        """
        try:
            camera = self._cameras.get(str(cam_id))
            record = None if camera is None else camera.handed_out(index)
            if record is None:
                raise ObjectNotFoundError(f"comux: frame {index} of camera {cam_id!r} was not returned recently")
            if self._producer is None:
                raise ConfigError("comux: there is no producer: call setup_producer(bootstrap_servers) first")
            if not isinstance(headers or {}, Mapping):
                raise ConfigError(f"comux: headers={headers!r:.60}: must be a dict of results by name")
            with self._sending:
                self._producer.write([record.replace(data=dict(headers or {}))])
        except PenstockError as error:
            self._failed(error, is_strict=self._sends_strictly)

    def send_batch(self, batch: Sequence[tuple[str, int, Mapping[str, Any]]]) -> None:
        """Call `send` for each item: `[(cam_id, index, headers), …]`."""
        for cam_id, index, headers in batch:
            self.send(cam_id, index, headers)

    def get_topic_from_cam_id(self, cam_id: str) -> str:
        """Return the topic of a camera."""
        return self._consume.topic(str(cam_id))

    def get_cam_id_from_topic(self, topic: str) -> str | None:
        """Return the camera of a topic, or None if it does not match the schema."""
        return self._consume.channel(topic)

    @staticmethod
    def _failed(error: PenstockError, *, is_strict: bool) -> None:
        if is_strict:
            raise error
        _log.error("%s", error)

    def __enter__(self) -> Comux:
        """Return self; leaving the block calls `kill`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop and disconnect everything."""
        self.kill()
