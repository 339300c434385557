"""Comux: cameras on Kafka, read, decoded, batched and answered, by the names that users of comux know."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from penstock.errors import ConfigError, ObjectNotFoundError, PenstockError
from penstock_kafka_av.comux.camera import Camera
from penstock_kafka_av.kafka.source import KafkaSource
from penstock_kafka_av.kafka.store import KafkaStore
from penstock_kafka_av.kafka.topics import Schema

if TYPE_CHECKING:
    from penstock_kafka_av.comux.control import Control

_log = logging.getLogger("penstock.comux")
PATIENCE_S: Final = 1.0
"""After its first frame, a batch waits for the other cameras no longer than this."""
Frame = tuple[str, int, Any]


class Comux:
    """Read cameras from Kafka topics, decode them, and send results back. Each camera is a pipeline of its own.

    Two ways to build it, as in comux: `Comux(cam_ids, consume_schema, produce_schema, log_level)` with the `setup_…`
    methods, or `Comux(cam_ids, bootstrap_servers, control_topic, control_bootstrap_servers, acts, …)`, which connects
    the control topic at once, and the cameras with `connect_all`.

    A frame is `(cam_id, index, array)`: the array is (height, width, 3) uint8 bgr24, or None if decoding failed; the
    index names the packet that holds the frame, with B-frames too, and is its offset. While nobody takes frames, the
    camera is not read on; further behind than `max_offset_diff`, it jumps to the end, and goes on at the next keyframe.

    Args:
        cam_ids: The cameras.
        args: The rest of one of the two forms.
        consume_schema: Names of the topics to read, with ":cam_id" (or "{{ channel }}") for the camera.
        produce_schema: Names of the topics to send to.
        log_level: Level of the loggers "penstock.comux" and "penstock.kafka".
        bootstrap_servers: Where the cameras are.
        control_topic: The config topic.
        control_bootstrap_servers: Where that is.
        acts: Names to functions of (comux, value).
        end: Begin at the end; else behind the first message that is there.
        max_offset_diff: Messages that a camera may lie behind.
        strict_on_fail: Raise what goes wrong; else it is logged.
        over_write: Replace a camera that is connected already; else it stays.
        options: Options of the client.
    """

    def __init__(
        self,
        cam_ids: Sequence[str],
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
        if log_level is not None:
            for name in ("penstock.comux", "penstock.kafka"):
                logging.getLogger(name).setLevel(log_level)
        if control_topic is not None:
            self.setup_controller(control_topic, control_bootstrap_servers or bootstrap_servers, acts or {})

    # Setting up.

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
        """Connect to all cameras; what comes from now on is read. Raises SourceError if `strict_on_fail`."""
        self.bootstrap_servers, self.end, self.max_offset_diff = bootstrap_servers, end, max_offset_diff
        self.strict_on_fail, self.over_write, self.consumer_options = strict_on_fail, over_write, dict(options)
        for cam_id in list(self.cam_ids):
            self.connect(cam_id, overwrite)

    def setup_controller(
        self, topic: str, bootstrap_servers: Any, acts: Mapping[str, Callable[[Comux, Any], Any]], **options: Any
    ) -> None:
        """Listen to the config topic from now on."""
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
        """Say how cameras are decoded that start from now on.

        Args:
            rate: Frames per second of the cameras. As in comux, nothing is left out because of it; it times the frames
                of a stream that was cut anywhere.
            W: Width in pixels, needed only by codecs that do not say it.
            H: Height in pixels, likewise.
            de_codec: What the packets hold.
            pix_fmt: What the encoder was given; the stream says it itself.
            pixel_format: What the arrays hold.
            packets: "whole" if each message is one packet, "stream" if the stream was cut anywhere.
            settings: Further settings of the decoder `av`.
        """
        self._decoding = {
            "codec": de_codec, "rate": rate if packets == "stream" else None, "width": W, "height": H,
            "pixel_format": pixel_format, "packets": packets, **settings,
        }  # fmt: skip

    def setup_producer(
        self, bootstrap_servers: Any, strict_on_fail: bool = True, over_write: bool = False, **options: Any
    ) -> None:
        """Connect the producer; one that is there stays unless `over_write`. Raises CannotConnectToStoreError."""
        if self._producer is not None and not over_write:
            return
        self._sends_strictly = strict_on_fail
        made = KafkaStore(
            bootstrap_servers=bootstrap_servers, topic=self._produce.text, payload="parent", options=options
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
        """Connect to a camera; if it is connected, it is replaced with `overwrite`, and stays as it is without."""
        cam_id = str(cam_id)
        if self.bootstrap_servers is None:
            raise ConfigError("comux: no bootstrap_servers: call setup_consumers(bootstrap_servers)")
        with self._changing:
            if cam_id in self._cameras:
                if not (self.over_write if overwrite is None else overwrite):
                    return
                self.kill(cam_id)
            kafka = KafkaSource(
                bootstrap_servers=self.bootstrap_servers,
                schema=self._consume.text,
                channels=[cam_id],
                start="end" if self.end else "beginning",
                max_lag=self.max_offset_diff,
                refresh_s=1.0,
                options=self.consumer_options,
            )
            try:
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
        """Connect to all cameras."""
        for cam_id in list(self.cam_ids):
            self.connect(cam_id)

    def listen(self, consumer: Any) -> None:
        """Read and decode a camera, named by its id or its consumer, from now on in threads of its own."""
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
        """Read and decode all cameras that are connected."""
        self._started = True
        for cam_id in list(self._cameras):
            self.listen(cam_id)

    def kill(self, cam_id: str | None = None) -> None:
        """End a camera, or, without an id, everything: cameras, control and producer. The others run on."""
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
        """Connect to a camera, and read it if the others are read; what the action `create` does."""
        self.connect(cam_id)
        if self._started:
            self.listen(str(cam_id))
        return f"camera {cam_id} is read from {self.get_topic_from_cam_id(cam_id)}"

    def update(self, cam_id: str) -> str:
        """Read a camera anew, with the settings as they are now; what the action `update` does."""
        self.connect(cam_id, True)
        if self._started:
            self.listen(str(cam_id))
        return f"camera {cam_id} is read anew"

    def delete(self, cam_id: str) -> str:
        """End a camera and forget it; what the action `delete` does. Raises ObjectNotFoundError."""
        if str(cam_id) not in self._cameras:
            raise ObjectNotFoundError(f"comux: there is no camera {cam_id!r}")
        self.kill(cam_id)
        self.cam_ids = [each for each in self.cam_ids if each != str(cam_id)]
        return f"camera {cam_id} is not read any more"

    # Frames.

    def get(self, cam_id: str, timeout: float | None = None) -> Frame | None:
        """Return the next frame of a camera, oldest first; None after `timeout` seconds, None waits for ever."""
        with self._arrived:
            if str(cam_id) not in self._cameras:
                raise ObjectNotFoundError(f"comux: there is no camera {cam_id!r}")
            self._arrived.wait_for(lambda: self._has_frame(str(cam_id)) is not False, timeout)
            found = self._take([str(cam_id)], frame=False)
            return found[0] if found else None

    def get_batch(self, frame: bool = False, timeout: float | None = None) -> list[Frame] | None:
        """Return one frame of every camera that is read: `[(cam_id, index, array), …]`.

        A camera that has nothing within a second after the first one, or within `timeout` seconds, is left out.

        Args:
            frame: Give the whole record in place of the array.
            timeout: Seconds to wait; None waits for ever.

        Returns:
            The batch, or None if no camera had a frame in time.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        with self._arrived:
            self._arrived.wait_for(lambda: any(each.waiting.has_frame() for each in self._running()), timeout)
            left = PATIENCE_S if ends is None else min(PATIENCE_S, max(0.0, ends - time.monotonic()))
            self._arrived.wait_for(lambda: all(each.waiting.has_frame() for each in self._running()), left)
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
            record = None if camera is None else camera.waiting.take()
            if camera is not None and record is not None:
                camera.remember(record)
                taken.append((cam_id, record.seq, record if frame else record.data))
        return taken

    def send(self, cam_id: str, index: int, headers: Mapping[str, Any] | None = None) -> None:
        """Produce the packet of a frame again, with results as headers; returns when the broker has it.

        Text and bytes are sent as they are, other values as JSON; partition, key and headers of the packet are kept.

        Raises:
            ObjectNotFoundError: no frame of this index was handed out, or it was too long ago.
            StoreError: the broker does not have it. Without `strict_on_fail` either is logged.
        """
        try:
            camera = self._cameras.get(str(cam_id))
            record = None if camera is None else camera.handed_out(index)
            if record is None:
                raise ObjectNotFoundError(f"comux: no frame {index} of camera {cam_id!r} was handed out lately")
            if self._producer is None:
                raise ConfigError("comux: nothing to send with: call setup_producer(bootstrap_servers)")
            with self._sending:
                self._producer.write([record.replace(data=dict(headers or {}))])
        except PenstockError as error:
            self._failed(error, is_strict=self._sends_strictly)

    def send_batch(self, batch: Sequence[tuple[str, int, Mapping[str, Any]]]) -> None:
        """Send several: `[(cam_id, index, headers), …]`."""
        for cam_id, index, headers in batch:
            self.send(cam_id, index, headers)

    def get_topic_from_cam_id(self, cam_id: str) -> str:
        """Return the topic that a camera is read from."""
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
        """Do nothing; the end of the block ends everything."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        self.kill()
