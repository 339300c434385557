"""Camera: the pipeline of one camera, from its topic to the queue of frames for `get`."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import attrs

from penstock.component import Remark
from penstock.compose.edge_factory import edge
from penstock.compose.factories import decoder, source, store
from penstock.compose.pipeline import Pipeline
from penstock.errors import DecodeError
from penstock.record import Record
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.kafka.source import KafkaSource

FRAMES_KEPT: Final = 8
"""Size of the queue of frames for `get`; while it is full, the camera is not read."""
PATIENCE_S: Final = 1.0
"""Seconds that batches wait for a camera without a frame, after the first frame of another camera."""
SENDABLE: Final = 512
"""Number of returned frames whose packets can still be sent."""


class ConnectedSource:
    """A Kafka source that connects before its run begins, so that no message in between is missed."""

    gives: ClassVar[str] = "bytes"
    stays_valid: ClassVar[bool] = True

    def __init__(self, kafka: KafkaSource) -> None:
        self._kafka = kafka
        self._is_open = False

    def open(self) -> None:
        """Connect, unless it is connected already. Raises SourceError."""
        if not self._is_open:
            self._kafka.open()
            self._is_open = True

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return at most `FRAMES_KEPT` messages, since each becomes a frame. Raises SourceError."""
        return self._kafka.read(min(max_records, FRAMES_KEPT), timeout_s)

    def position(self) -> dict[str, int]:
        """Return the next offset of each partition."""
        return self._kafka.position()

    def commit(self, position: Mapping[str, int]) -> None:
        """Commit the offsets if there is a group. Raises SourceError."""
        self._kafka.commit(position)

    def seek(self, position: Mapping[str, int]) -> None:
        """Continue at these offsets."""
        self._kafka.seek(position)

    def lag(self) -> int:
        """Return the number of messages that wait at the broker."""
        return self._kafka.lag()

    def lost_upstream(self) -> Mapping[str, int]:
        """Return the number of messages that the broker deleted before they were read, by channel."""
        return self._kafka.lost_upstream()

    def dropped_upstream(self) -> Mapping[str, int]:
        """Return the number of messages skipped because of lag, by channel."""
        return self._kafka.dropped_upstream()

    def remarks(self) -> Sequence[Remark]:
        """Return a sentence on the skipped messages, if there were any."""
        return self._kafka.remarks()

    def close(self) -> None:
        """Disconnect."""
        self._is_open = False
        self._kafka.close()


class TellingDecoder:
    """The decoder `av`, but with a record whose data is None for each packet that it cannot decode."""

    takes: ClassVar[str] = "bytes"
    gives: ClassVar[str] = "any"
    own_identity: ClassVar[bool] = True

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._av = AvDecoder(**settings)
        self.idle_rest_s = self._av.idle_rest_s

    @property
    def skipped(self) -> int:
        """Number of packets without a frame, because of damage or an earlier gap."""
        return self._av.skipped

    @property
    def thinned(self) -> int:
        """Number of packets whose frames were left out because of `rate` or `skip`."""
        return self._av.thinned

    def remarks(self) -> Sequence[Remark]:
        """Return the reason why frames are decoded in software, if they are."""
        return self._av.remarks()

    def rest(self) -> None:
        """Free threads and frames until the next packet."""
        self._av.rest()

    def open(self) -> None:
        """Check the settings."""
        self._av.open()

    def decode(self, record: Record) -> Sequence[Record]:
        """Return the frames that are ready; a record with None as data if decoding failed."""
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
        """Return the packets that the decoder holds."""
        return self._av.held()

    def close(self) -> None:
        """Close the decoder."""
        self._av.close()


class Waiting:
    """A store in memory: a queue of one camera's frames. Writing blocks while it is full."""

    takes: ClassVar[str] = "any"

    def __init__(self, arrived: threading.Condition) -> None:
        self._arrived = arrived
        self._frames: deque[Record] = deque()
        self._is_over = False

    def open(self) -> None:
        """Accept frames."""
        self._is_over = False

    def write(self, records: Sequence[Record]) -> None:
        """Append frames; blocks while the queue is full, until frames are taken or the camera is killed."""
        for record in records:
            with self._arrived:
                self._arrived.wait_for(lambda: len(self._frames) < FRAMES_KEPT or self._is_over)
                if not self._is_over:
                    self._frames.append(record)
                    self._arrived.notify_all()

    def take(self) -> Record | None:
        """Return the oldest frame, or None. The caller holds the condition."""
        if not self._frames:
            return None
        self._arrived.notify_all()
        return self._frames.popleft()

    def has_frame(self) -> bool:
        """Return whether the queue has a frame."""
        return bool(self._frames)

    def end(self) -> None:
        """Drop all frames, accept no more, and unblock a waiting writer."""
        with self._arrived:
            self._is_over = True
            self._frames.clear()
            self._arrived.notify_all()

    def sync(self) -> None:
        """Do nothing: frames are kept in memory only."""

    def close(self) -> None:
        """Do nothing: waiting frames can still be taken."""


def check_decoding(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError or ValueError for settings that the decoder `av` refuses."""
    made = AvDecoder(**settings)
    made.open()
    made.close()


@attrs.define(kw_only=True)
class Camera:
    """One camera: its source, its queue of frames, and the run of its pipeline.

    Attributes:
        cam_id: Its id.
        kafka: The source that reads its topic.
        connected: The same source, connected, as used in the pipeline.
        waiting: The queue of its frames.
        run: The run of its pipeline; None before `listen`.
        awaited_since: The monotonic time since which batches wait for its next frame; None if they do not.
    """

    cam_id: str
    kafka: KafkaSource
    connected: ConnectedSource
    waiting: Waiting
    run: Any = None
    awaited_since: float | None = None
    _sendable: OrderedDict[int, Record] = attrs.field(factory=OrderedDict, init=False)

    @classmethod
    def connect(cls, cam_id: str, kafka: KafkaSource, arrived: threading.Condition) -> Camera:
        """Connect to the broker, which fixes the offset where reading begins. Raises SourceError."""
        made = ConnectedSource(kafka)
        made.open()
        return cls(cam_id=cam_id, kafka=kafka, connected=made, waiting=Waiting(arrived))

    def listen(self, decoding: Mapping[str, Any]) -> None:
        """Start to read and decode; no-op if it does already."""
        if self.run is None:
            flow = (
                source(self.connected, name=f"camera-{self.cam_id}")
                >> decoder(lambda: TellingDecoder(decoding), name="decode")
                >> edge(capacity=FRAMES_KEPT)
                >> store(self.waiting, name="frames")
            )
            self.run = Pipeline(flow).start()

    def patience_left(self) -> float:
        """Return how many seconds batches still wait for its next frame; the wait begins with the first call."""
        if self.waiting.has_frame():
            return 0.0
        now = time.monotonic()
        if self.awaited_since is None:
            self.awaited_since = now
        return max(0.0, self.awaited_since + PATIENCE_S - now)

    def take(self) -> Record | None:
        """Return the oldest frame, whose packet can be sent from now on, or None. The caller holds the condition."""
        record = self.waiting.take()
        if record is not None:
            self.awaited_since = None
            self._remember(record)
        return record

    def _remember(self, record: Record) -> None:
        """Keep a frame that was returned, so that its packet can be sent."""
        self._sendable[record.seq] = record
        while len(self._sendable) > SENDABLE:
            self._sendable.popitem(last=False)

    def handed_out(self, index: int) -> Record | None:
        """Return the frame with this index if it is among the last `SENDABLE` returned ones, else None."""
        return self._sendable.get(index)

    def kill(self) -> None:
        """Stop reading, and disconnect; frames in the queue are lost."""
        self.waiting.end()
        run, self.run = self.run, None
        if run is not None:
            run.stop()
        self.connected.close()
