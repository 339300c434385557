"""InboxLane: a thread that reads edges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penstock.component import Remark
from penstock.errors import RunError
from penstock.run.edges.chunk import Barrier, Chunk, End
from penstock.run.edges.inbox import Inbox, InboxEdge
from penstock.run.lanes.context import LaneContext
from penstock.run.lanes.lane import Lane
from penstock.run.lanes.merge import Merge
from penstock.run.steps.step import Step


class InboxLane(Lane):
    """A lane that reads edges.

    Attributes:
        inbox: The edges that it reads.
        node: A step of the node that is named when records have the same name; None if only one node feeds the lane.
    """

    def __init__(
        self, run: LaneContext, name: str, steps: Sequence[Step], inbox: Inbox, *, counted: bool = False
    ) -> None:
        super().__init__(run, name, steps, counted=counted)
        self.inbox = inbox
        self.node: Step | None = steps[0] if steps else None
        self._merge = Merge(self._same_names)

    @property
    def edges(self) -> Sequence[InboxEdge]:
        """The edges that the lane reads."""
        return self.inbox.edges

    def nudge(self) -> None:
        """Interrupt the lane's wait for its inbox."""
        self.inbox.nudge()

    def work(self) -> None:
        """Take items until every edge has ended."""
        while True:
            item = self.inbox.get(self.wait_s())
            if isinstance(item, Chunk):
                self._note_names(item)
                self.process(item.received_ns, item.records)
            elif isinstance(item, Barrier):
                self.barrier(item)
            elif isinstance(item, End):
                return
            self.tick()

    def _note_names(self, chunk: Chunk) -> None:
        """Check whether several nodes send records of the same name."""
        edge = self.inbox.taken_from
        if len(self.inbox.edges) > 1 and edge is not None and not edge.counted:
            self._merge.note(edge.name, chunk.records)

    def _same_names(self, message: str) -> None:
        """Report records of the same name from several nodes; it is an error if a store keeps only one of them."""
        if self.node is None:
            return
        keeping = self.run.checkpoints.stores_that_keep_one()
        if keeping:
            message += f" (store {keeping[0]!r} keeps one of them)"
            self.run.trouble(f"{self.node.resolved.where}: {message}", RunError(message))
        else:
            self.node.counters.remarks[Remark(message, "warning")] = None


def close_inboxes(lanes: Iterable[Lane]) -> None:
    """End lanes that can receive nothing more: their sources were removed, and the run is to end."""
    for lane in lanes:
        if isinstance(lane, InboxLane):
            lane.inbox.close()
