"""The network as the replicator needs it: who can be reached, how fast, and until when."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from edgeagent.node.state_circle import GROUND_KINDS, StateCircle
from edgeagent.state.effects import NetworkView, PeerView

if TYPE_CHECKING:
    from edgeagent.node.membership import Membership

__all__ = ["StateSky"]

_LOOK_S = 2.0
_PATIENCE_S = 20.0
_SLOW_BIT_S = 1e6
_ASKED_MAX = 256  # members whose contact is looked up


class StateSky:
    """On the event loop's thread. ``marked``: where copies are wanted most, by node, until when (monotonic s)."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._looked_s = -1e9
        self._until_ms: dict[str, int] = {}
        self.marked: dict[str, float] = {}

    def view(self, circle: StateCircle) -> NetworkView:
        """Of all members but this node."""
        around, now_s = circle.around(), time.monotonic()
        if now_s - self._looked_s > _LOOK_S:
            self._looked_s = now_s
            near = [one.id for one in around.values() if one.is_reachable][:_ASKED_MAX]
            self._until_ms = {
                node: int(until_s * 1000)
                for node in near
                if (until_s := self._membership.contact_until_utc_s(node)) < math.inf
            }
            self.marked = {node: until_s for node, until_s in self.marked.items() if until_s > now_s}
        return NetworkView(
            {
                one.id: PeerView(
                    reachable=one.is_reachable,
                    is_ground=one.kind in GROUND_KINDS,
                    until_utc_ms=self._until_ms.get(one.id, 0),
                    marked=one.id in self.marked,
                )
                for one in around.values()
            }
        )

    def sets_utc_ms(self, circle: StateCircle) -> int:
        """When this node loses the last of its contacts, 0: no end is predicted, or it has none."""
        near = [one.id for one in circle.around().values() if one.is_reachable]
        ends = [self._until_ms.get(node, 0) for node in near]
        return max(ends) if ends and all(ends) else 0

    @staticmethod
    def patience_s(node: str, size_bytes: int) -> float:
        """How long a request of so many bytes may take."""
        return _PATIENCE_S + 8 * size_bytes / _SLOW_BIT_S
