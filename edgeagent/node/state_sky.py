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

MARK_S = 10.0
_LOOK_S = 2.0
_PATIENCE_S = 20.0
_SLOW_BIT_S = 1e6
_TELLS_BYTES = 128 << 10  # of a request that says something of the rate
_ASKED_MAX = 256  # members whose contact is looked up


class StateSky:
    """On the event loop's thread. ``marked``: where copies are wanted most, by node, until when (monotonic s)."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._looked_s = -1e9
        self._until_ms: dict[str, int] = {}
        self.marked: dict[str, float] = {}
        self._rates_bit_s: dict[str, float] = {}
        self._rtts_s: dict[str, float] = {}

    def took(self, node: str, size_bytes: int, lasted_s: float) -> None:
        """A request of so many bytes was answered after so long: what the way, and the disk at its end, let through."""
        lasted_s = max(1e-6, lasted_s)
        if size_bytes < _TELLS_BYTES:
            self._rtts_s[node] = _smooth(self._rtts_s.get(node), lasted_s)
            return
        rate_bit_s = 8 * size_bytes / max(lasted_s - self._rtts_s.get(node, 0.0), lasted_s / 8)
        self._rates_bit_s[node] = _smooth(self._rates_bit_s.get(node), rate_bit_s)

    def rate_bit_s(self, node: str) -> float:
        """Of the way to a node, 0: unknown."""
        return self._rates_bit_s.get(node, 0.0)

    def mark(self, node: str) -> bool:
        """A step is to run there soon: copies of what is written meanwhile had better go there. Whether that is new."""
        now_s = time.monotonic()
        is_new = self.marked.get(node, 0.0) < now_s
        self.marked[node] = now_s + MARK_S
        return is_new

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
            for known in (self._rates_bit_s, self._rtts_s):
                for node in known.keys() - around.keys():
                    del known[node]
            self.marked = {node: until_s for node, until_s in self.marked.items() if until_s > now_s}
        return NetworkView(
            {
                one.id: PeerView(
                    reachable=one.is_reachable,
                    is_ground=one.kind in GROUND_KINDS,
                    rate_bit_s=self._rates_bit_s.get(one.id, 0.0),
                    rtt_s=self._rtts_s.get(one.id, 0.0),
                    until_utc_ms=self._until_ms.get(one.id, 0),
                    marked=one.id in self.marked,
                )
                for one in around.values()
            }
        )

    @property
    def speed(self) -> float:
        """Seconds of orbits in a second of the clock."""
        return self._membership.orbital_speed

    def sets_utc_ms(self, circle: StateCircle) -> int:
        """When this node loses the last of its contacts, 0: no end is predicted, or it has none."""
        near = [one.id for one in circle.around().values() if one.is_reachable]
        ends = [self._until_ms.get(node, 0) for node in near]
        return max(ends) if ends and all(ends) else 0

    @staticmethod
    def patience_s(node: str, size_bytes: int) -> float:
        """How long a request of so many bytes may take."""
        return _PATIENCE_S + 8 * size_bytes / _SLOW_BIT_S


def _smooth(before: float | None, now: float) -> float:
    return now if before is None else 0.75 * before + 0.25 * now
