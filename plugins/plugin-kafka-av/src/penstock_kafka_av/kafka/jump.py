"""Jump: skip messages of a partition that lags too far behind, and count them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from penstock_kafka_av.keyframe import is_keyframe

if TYPE_CHECKING:
    from penstock_kafka_av.kafka.consuming import Consuming
    from penstock_kafka_av.kafka.partition import Partition

_log = logging.getLogger("penstock.kafka")


class Jump:
    """Skip to the end or to the last keyframe when a partition lags more than `max_lag` messages behind.

    Attributes:
        dropped: Messages skipped, by channel.
    """

    def __init__(self, consuming: Consuming, max_lag: int, on_lag: str, codec: str) -> None:
        self.dropped: dict[str, int] = {}
        self._consuming = consuming
        self._max_lag = max_lag
        self._to_keyframe = on_lag == "keyframe"
        self._codec = codec
        self._scans: dict[str, _Scan] = {}
        self._excused: dict[str, int] = {}
        self._jumps = 0
        self._seconds = 0.0

    def over(self, taken: Sequence[tuple[Partition, Any]]) -> list[tuple[Partition, Any]]:
        """Return those of the messages that are not skipped."""
        by_partition: dict[str, list[tuple[Partition, Any]]] = {}
        for each in taken:
            by_partition.setdefault(each[0].name, []).append(each)
        given: list[tuple[Partition, Any]] = []
        for name, messages in by_partition.items():
            partition, first = messages[0]
            high = self._consuming.high(partition)
            if name in self._scans:
                self._scan(partition, messages)
            elif high - first.offset() <= self._max_lag or first.offset() < self._excused.get(name, 0):
                given += messages
            elif self._to_keyframe:
                self._scans[name] = _Scan(first=first, high=high)
                self._scan(partition, messages)
            else:
                self._jump(partition, first, high)
        return given

    def _scan(self, partition: Partition, messages: Sequence[tuple[Partition, Any]]) -> None:
        """Search the backlog for its last keyframe; once all of it was read, go there."""
        scan = self._scans[partition.name]
        for _, message in messages:
            if is_keyframe(self._codec, message.value() or b""):
                scan.keyframe = message.offset()
        if partition.next >= scan.high:
            del self._scans[partition.name]
            self._excused[partition.name] = scan.high
            self._jump(partition, scan.first, partition.next if scan.keyframe is None else scan.keyframe)

    def _jump(self, partition: Partition, first: Any, to: int) -> None:
        passed = to - first.offset()
        kind, stamp_ms = first.timestamp()
        behind_s = max(0.0, time.time() - stamp_ms / 1000) if kind else 0.0
        self._consuming.move(partition, to)
        self.dropped[partition.channel] = self.dropped.get(partition.channel, 0) + passed
        self._jumps += 1
        self._seconds = max(self._seconds, behind_s)
        _log.warning("%s: %.1f s behind: skipping offsets %d to %d", partition.name, behind_s, first.offset(), to - 1)

    def remark(self) -> str:
        """Return a sentence on the skipped messages; "" if there were none."""
        if not self._jumps:
            return ""
        return (
            f"lagged more than {self._max_lag} messages behind {self._jumps} times, {self._seconds:.1f} s at most, "
            f"and skipped {sum(self.dropped.values())} messages"
        )


@attrs.define(kw_only=True)
class _Scan:
    """A search for the last keyframe before the offset `high`."""

    first: Any
    high: int
    keyframe: int | None = None
