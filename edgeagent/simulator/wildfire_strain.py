"""What makes placing harder than a case says: views that are old, several who decide at once, and nodes that fail.

Nodes say truly what they have when they are asked to take a step; what a scheduler believes may be older. The network
is known exactly all the same, as orbits are. Times are seconds after the start of the case.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeagent.simulator.wildfire_case import Case

__all__ = ["NO_STRAIN", "Ledger", "Strain"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Strain:
    """``crowd`` workflows for each of the case, started within ``within_s`` of its time, decided apart.

    Schedulers see what is free as it was ``stale_s`` ago. ``failing`` is the share of the nodes that refuse whatever
    they are asked, drawn with ``seed``; sources of data and where it comes in are spared.
    """

    stale_s: float = 0.0
    crowd: int = 1
    within_s: float = 30.0
    failing: float = 0.0
    seed: int = 1

    def offsets_s(self, place: int) -> list[float]:
        """When the workflows of instance ``place`` of the case start, after its time."""
        if self.crowd == 1:
            return [0.0]
        chance = random.Random(f"{self.seed}/{place}")
        return sorted(chance.uniform(0.0, self.within_s) for _ in range(self.crowd))

    def failed_nodes(self, case: Case) -> frozenset[int]:
        spared = {node for one in case.instances for node in (one.ingest_node, one.eo_satellite)}
        able = [node for node in range(case.nodes) if node not in spared]
        return frozenset(random.Random(self.seed).sample(able, int(self.failing * len(able))))


NO_STRAIN = Strain()


class Ledger:
    """What nodes have free, ``(nodes, 2)``, and what was known of it ``stale_s`` ago."""

    def __init__(self, free: Floats, stale_s: float) -> None:
        self._free = free
        self._seen = free.copy()
        self._stale_s = stale_s
        self._unseen: deque[tuple[float, int, Floats]] = deque()

    def owe(self, node: int, demand: Floats) -> None:
        """Take it before everything begins, known to all, even if it is not there."""
        self._free[node] -= demand
        self._seen[node] -= demand

    def takes(self, node: int, demand: Floats) -> bool:
        return bool((self._free[node] >= demand).all())

    def take(self, at_s: float, node: int, demand: Floats) -> None:
        self._free[node] -= demand
        self._unseen.append((at_s, node, self._free[node].copy()))

    def close(self, at_s: float, node: int) -> None:
        """The node takes nothing any more."""
        self._free[node] = 0.0
        self._unseen.append((at_s, node, self._free[node].copy()))

    def seen_at(self, at_s: float) -> Floats:
        """The view of who decides then; times must not go back. The next call changes it."""
        while self._unseen and self._unseen[0][0] <= at_s - self._stale_s:
            _, node, left = self._unseen.popleft()
            self._seen[node] = left
        return self._seen
