"""Who may run now, who waits, who is refused: a bounded number of runs and a bounded first-in-first-out
queue.

Pure: no clock, no loop. Times are monotonic milliseconds that the caller passes in.

Rules, each held by a test:

1. At most ``limit`` permits are out at once, and none is given while somebody waits in front.
2. A permit that comes back goes to the first in the queue at once (``leave`` says to whom), so that
   nobody who arrives in between can take it.
3. A queue holds at most ``depth_max`` tickets, the queues of a node ``node_depth_max`` together; beyond:
   Busy, with the time after which a place is likely. Tickets of the node itself (``exempt``: async
   invocations, whose number has another bound) are always taken.
4. Each ticket ends exactly once: granted, or withdrawn by its holder. A granted ticket is a permit and
   must be left.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from edgeagent.model.errors import Busy

__all__ = ["Admission", "NodeQueue", "Ticket"]

W = TypeVar("W")

RETRY_AFTER_S_MIN, RETRY_AFTER_S_MAX = 1.0, 60.0
# Weight of the newest duration in the running mean: about the last sixteen count.
_NEWEST = 1 / 16


class NodeQueue:
    """What the queues of all functions share."""

    __slots__ = ("depth_max", "refused", "waiting")

    def __init__(self, depth_max: int) -> None:
        self.depth_max = depth_max
        self.waiting = 0
        self.refused = 0


class Ticket(Generic[W]):
    """A place in a queue; ``waiter`` is whatever the holder wants back when it is granted."""

    __slots__ = ("granted", "waiter")

    def __init__(self, waiter: W) -> None:
        self.waiter = waiter
        self.granted = False


class Admission(Generic[W]):
    """One function's permits and queue; ``running`` and ``queue`` are for reading."""

    __slots__ = ("_node", "depth_max", "limit", "mean_ms", "name", "queue", "running")

    def __init__(self, name: str, limit: int, depth_max: int, node: NodeQueue) -> None:
        if limit < 1:
            raise ValueError(f"limit {limit} would never run anything")
        self.name = name
        self.limit = limit
        self.depth_max = depth_max
        self.running = 0
        self.mean_ms = 0.0
        self._node = node
        self.queue: OrderedDict[Ticket[W], None] = OrderedDict()

    @property
    def waiting(self) -> int:
        return len(self.queue)

    @property
    def idle(self) -> bool:
        """Nothing runs and nobody waits."""
        return not self.running and not self.queue

    def enter(self) -> bool:
        """Take a permit if one is free and nobody waits for it."""
        if self.running >= self.limit or self.queue:
            return False
        self.running += 1
        return True

    def wait(self, waiter: W, *, exempt: bool = False) -> Ticket[W]:
        """Take a place in the queue; only after ``enter`` said no. Raises Busy."""
        node = self._node
        if not exempt and (len(self.queue) >= self.depth_max or node.waiting >= node.depth_max):
            node.refused += 1
            full = (
                f"{len(self.queue)} calls of {self.name} wait (queue.depth_max)"
                if len(self.queue) >= self.depth_max
                else f"{node.waiting} calls wait on this node (queue.node_depth_max)"
            )
            raise Busy(full, retry_after_s=self.retry_after_s())
        ticket = Ticket(waiter)
        self.queue[ticket] = None
        node.waiting += 1
        return ticket

    def withdraw(self, ticket: Ticket[W]) -> list[Ticket[W]]:
        """The holder of ``ticket`` is gone, whether it was granted or not; tickets that this grants."""
        if ticket.granted:
            return self.leave()
        del self.queue[ticket]
        self._node.waiting -= 1
        return []

    def leave(self, duration_ms: float | None = None) -> list[Ticket[W]]:
        """A permit comes back; the tickets that it grants."""
        if self.running < 1:
            raise ValueError(f"more permits of {self.name} came back than were out")
        self.running -= 1
        if duration_ms is not None:
            self.mean_ms += (duration_ms - self.mean_ms) * _NEWEST if self.mean_ms else duration_ms
        granted: list[Ticket[W]] = []
        while self.queue and self.running < self.limit:
            ticket, _ = self.queue.popitem(last=False)
            self._node.waiting -= 1
            self.running += 1
            ticket.granted = True
            granted.append(ticket)
        return granted

    def retry_after_s(self) -> float:
        """When about half of those in front will have run, within RETRY_AFTER_S_MIN and RETRY_AFTER_S_MAX."""
        ahead = self.running + len(self.queue) / 2
        seconds = ahead * self.mean_ms / self.limit / 1000
        return min(RETRY_AFTER_S_MAX, max(RETRY_AFTER_S_MIN, seconds))
