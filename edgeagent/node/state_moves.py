"""What goes ahead of a run's steps, and to which of the nodes that they may run on: :mod:`edgeagent.state.propagation`
with the contacts of this node.

1. Contacts are those of this node, with the end that the sky predicts and the rate that transfers have shown. Where the
   way leads over others is the mesh's business.
2. A plan is kept with its run: what is right still stays as it is when the next stage plans anew.
3. A move that cannot be in time is begun all the same, last; one to a node without a contact is left to the next plan.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import msgspec

from edgeagent.node.state_circle import StateCircle
from edgeagent.node.state_sky import StateSky
from edgeagent.state.contacts import Contact, Contacts, Host
from edgeagent.state.entry import Entry
from edgeagent.state.propagation import Item, Move, Successor, plan_moves
from edgeagent.state.units import BitPerS, Bytes, Ms, UtcS

__all__ = ["AHEAD_BYTES_MAX", "Going", "Needed", "StateMoves"]

AHEAD_BYTES_MAX = 256 << 20  # of one plan
_RATE_GUESS_BIT_S = 100e6
_LATENCY_GUESS_MS = 50.0
_RUNS_MAX = 256
_SLO_MS = 60_000.0  # of a step that says nothing of it


class Needed(msgspec.Struct, frozen=True, kw_only=True):
    """A step to come: the nodes that it may run on, the planned one first, and when it may begin. ``is_next``: it
    follows one that runs now.
    """

    step: str
    nodes: tuple[str, ...]
    start_in_ms: float = 0.0
    slo_ms: float = 0.0
    is_next: bool = False


class Going(msgspec.Struct, frozen=True):
    """``entries`` are to be at a node by a moment (UTC)."""

    node: str
    entries: tuple[Entry, ...]
    by_utc_ms: int


class StateMoves:
    """On the event loop's thread."""

    def __init__(
        self, circle: StateCircle, sky: StateSky, node_id: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._circle = circle
        self._sky = sky
        self._node_id = node_id
        self._clock = clock
        self._plans: OrderedDict[tuple[str, str], tuple[Move, ...]] = OrderedDict()

    def plan(self, run: str, needed: Needed, entries: Sequence[Entry]) -> list[Going]:
        """Where these entries, which are here, are to go for a step of a run; those that begin first, first."""
        now_s = UtcS(self._clock())
        contacts, hosts = self._contacts(now_s)
        by_key = {entry.key: entry for entry in _some(entries)}
        successor = Successor(
            step=needed.step,
            nodes=needed.nodes,
            start_s=UtcS(now_s + needed.start_in_ms / 1000),
            slo_ms=Ms(needed.slo_ms or _SLO_MS),
            needs=tuple(by_key),
        )
        items = [
            Item(key=key, size_bytes=Bytes(entry.size_bytes), holders={self._node_id: now_s})
            for key, entry in by_key.items()
        ]
        moves = plan_moves(
            contacts, hosts, items, [successor], now_s, self._plans.pop((run, needed.step), ())
        )
        self._plans[run, needed.step] = moves
        while len(self._plans) > _RUNS_MAX:
            self._plans.popitem(last=False)
        return self._going(moves, by_key, successor)

    def _going(self, moves: Sequence[Move], by_key: Mapping[str, Entry], successor: Successor) -> list[Going]:
        found: dict[str, list[Entry]] = {}
        for move in sorted(moves, key=lambda one: not one.feasible):
            if len(move.via) > 1:
                found.setdefault(move.via[1], []).append(by_key[move.key])
        by_utc_ms = int(1000 * successor.deadline_s)
        return [Going(node, tuple(some), by_utc_ms) for node, some in found.items()]

    def _contacts(self, now_s: UtcS) -> tuple[Contacts, dict[str, Host]]:
        contacts, hosts = [], {self._node_id: Host(room_bytes=Bytes(1 << 50))}
        for node, peer in self._sky.view(self._circle).peers.items():
            until_s = peer.until_utc_ms / 1000 or math.inf
            if not peer.reachable or until_s <= now_s:
                continue
            hosts[node] = Host(room_bytes=Bytes(1 << 50), until_s=UtcS(until_s))
            latency_ms = peer.rtt_s * 500 or _LATENCY_GUESS_MS
            rate = BitPerS(max(1.0, peer.rate_bit_s or _RATE_GUESS_BIT_S))
            contacts.append(
                Contact(
                    sender=self._node_id,
                    receiver=node,
                    start_s=now_s,
                    end_s=UtcS(until_s),
                    rate=rate,
                    latency=Ms(latency_ms),
                )
            )
        return Contacts(contacts), hosts


def _some(entries: Sequence[Entry]) -> list[Entry]:
    """As many as go ahead, the smallest first."""
    found, size_bytes = [], 0
    for entry in sorted(entries, key=lambda one: one.size_bytes):
        size_bytes += entry.size_bytes
        if size_bytes > AHEAD_BYTES_MAX:
            break
        found.append(entry)
    return found
