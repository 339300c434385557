"""Camera: the pipeline of one camera, from its topic to the frames that wait for `get`."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import attrs

from penstock.compose.edge_factory import edge
from penstock.compose.factories import decoder, source, store
from penstock.compose.pipeline import Pipeline
from penstock.errors import DecodeError
from penstock.record import Record
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.kafka.source import KafkaSource

FRAMES_KEPT: Final = 8
"""Frames that wait for `get`; while they do, the camera is not read on."""
SENDABLE: Final = 512
"""Frames handed out whose packets can still be sent."""


class ConnectedSource:
    """A Kafka source that is connected before its run begins, so that nothing between the two is missed."""

    gives: ClassVar[str] = "bytes"
    stays_valid: ClassVar[bool] = True

    def __init__(self, kafka: KafkaSource) -> None:
        self._kafka = kafka
        self._is_open = False

    def open(self) -> None:
        """Connect, unless it is connected."""
        if not self._is_open:
            self._kafka.open()
            self._is_open = True

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return messages, few at a time: each becomes a frame."""
        return self._kafka.read(min(max_records, FRAMES_KEPT), timeout_s)

    def position(self) -> dict[str, int]:
        """Return where it stands."""
        return self._kafka.position()

    def commit(self, position: Mapping[str, int]) -> None:
        """Commit, if there is a group."""
        self._kafka.commit(position)

    def seek(self, position: Mapping[str, int]) -> None:
        """Go on there."""
        self._kafka.seek(position)

    def lag(self) -> int:
        """Return how many messages wait."""
        return self._kafka.lag()

    def lost_upstream(self) -> Mapping[str, int]:
        """Return what the broker deleted."""
        return self._kafka.lost_upstream()

    def dropped_upstream(self) -> Mapping[str, int]:
        """Return what was passed over."""
        return self._kafka.dropped_upstream()

    def remark(self) -> str:
        """Return what was passed over, as a sentence."""
        return self._kafka.remark()

    def close(self) -> None:
        """Disconnect."""
        self._is_open = False
        self._kafka.close()


class TellingDecoder:
    """The decoder `av`, with a record without an array for each packet that it cannot decode."""

    takes: ClassVar[str] = "bytes"
    gives: ClassVar[str] = "any"
    own_identity: ClassVar[bool] = True

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._av = AvDecoder(**settings)
        self._seen: OrderedDict[int, None] = OrderedDict()

    def open(self) -> None:
        """Check the settings."""
        self._av.open()

    def decode(self, record: Record) -> Sequence[Record]:
        """Return the frames that are ready; None in place of the array where decoding failed."""
        try:
            return self._av.decode(record)
        except DecodeError:
            return [record.replace(data=None, parent=record)]

    def flush(self) -> Iterable[Record]:
        """Return the last frames."""
        return self._av.flush()

    def reset(self) -> None:
        """Wait for the next keyframe."""
        self._av.reset()

    def held(self) -> Sequence[Record]:
        """Return the packets that are inside."""
        return self._av.held()

    def close(self) -> None:
        """Close the decoder."""
        self._av.close()


class Waiting:
    """A store in memory: the frames of one camera until they are taken, oldest first. It blocks while it is full."""

    takes: ClassVar[str] = "any"

    def __init__(self, arrived: threading.Condition) -> None:
        self._arrived = arrived
        self._frames: deque[Record] = deque()
        self._is_over = False

    def open(self) -> None:
        """Begin."""
        self._is_over = False

    def write(self, records: Sequence[Record]) -> None:
        """Keep frames; waits while it is full, until they are taken or the camera is killed."""
        for record in records:
            with self._arrived:
                self._arrived.wait_for(lambda: len(self._frames) < FRAMES_KEPT or self._is_over)
                if not self._is_over:
                    self._frames.append(record)
                    self._arrived.notify_all()

    def take(self) -> Record | None:
        """Return the oldest frame, or None. Called with the condition held."""
        if not self._frames:
            return None
        self._arrived.notify_all()
        return self._frames.popleft()

    def has_frame(self) -> bool:
        """Return whether a frame waits."""
        return bool(self._frames)

    def end(self) -> None:
        """Take in nothing more, and let a writer that waits go on."""
        with self._arrived:
            self._is_over = True
            self._frames.clear()
            self._arrived.notify_all()

    def sync(self) -> None:
        """Do nothing: it is memory."""

    def close(self) -> None:
        """Do nothing: what waits can still be taken."""


@attrs.define(kw_only=True)
class Camera:
    """One camera: its source, its frames that wait, and its run once it is listened to.

    Attributes:
        cam_id: Its id.
        kafka: The source that reads its topic.
        connected: The same, connected.
        waiting: Its frames.
        run: The run of its pipeline, or None.
    """

    cam_id: str
    kafka: KafkaSource
    connected: ConnectedSource
    waiting: Waiting
    run: Any = None
    _sendable: OrderedDict[int, Record] = attrs.field(factory=OrderedDict, init=False)

    @classmethod
    def connect(cls, cam_id: str, kafka: KafkaSource, arrived: threading.Condition) -> Camera:
        """Connect to the broker, where reading will begin. Raises SourceError."""
        made = ConnectedSource(kafka)
        made.open()
        return cls(cam_id=cam_id, kafka=kafka, connected=made, waiting=Waiting(arrived))

    def listen(self, decoding: Mapping[str, Any]) -> None:
        """Begin to read and decode."""
        if self.run is None:
            flow = (
                source(self.connected, name=f"camera-{self.cam_id}")
                >> decoder(lambda: TellingDecoder(decoding), name="decode")
                >> edge(capacity=FRAMES_KEPT)
                >> store(self.waiting, name="frames")
            )
            self.run = Pipeline(flow).start()

    def remember(self, record: Record) -> None:
        """Keep a frame that was handed out, so that its packet can be sent."""
        self._sendable[record.seq] = record
        while len(self._sendable) > SENDABLE:
            self._sendable.popitem(last=False)

    def handed_out(self, index: int) -> Record | None:
        """Return the frame of this index, if it was handed out and not too long ago."""
        return self._sendable.get(index)

    def kill(self) -> None:
        """Stop reading, and disconnect; frames that nobody took are gone."""
        self.waiting.end()
        run, self.run = self.run, None
        if run is not None:
            run.stop()
        self.connected.close()
