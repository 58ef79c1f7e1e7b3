"""Before this node sets, what only it holds goes to somebody who stays.

1. Of each set all that is held is gone through once, in the order of its changes, a part at a time; what is written
   after that is looked at as it comes.
2. A set is another one where its predicted time has moved by more than predictions do.
3. Parts share the link: a later one begins as early as if those before it were to go first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeagent.node.state_circle import StateCircle
from edgeagent.node.state_replicas import StateReplicas
from edgeagent.node.state_sky import StateSky
from edgeagent.state.entry import Durability

if TYPE_CHECKING:
    from edgeagent.state.keystore import KeyStore

__all__ = ["StateLeaving"]

PART_KEYS = 4096
_ANOTHER_MS = 20_000  # of orbital time


class StateLeaving:
    """On the event loop's thread."""

    def __init__(self, store: KeyStore, circle: StateCircle, sky: StateSky, replicas: StateReplicas) -> None:
        self._store = store
        self._circle = circle
        self._sky = sky
        self._replicas = replicas
        self._set_ms = 0
        self._seq = 0  # of the store's feed, up to which it was gone through for this set
        self._bytes = 0  # that are to go before it

    async def look(self) -> None:
        """Now and then, also where nothing is near. Raises EdgeError."""
        set_ms = self._sky.sets_utc_ms(self._circle)
        if not set_ms:
            return
        if abs(set_ms - self._set_ms) * self._sky.speed > _ANOTHER_MS:
            self._set_ms, self._seq, self._bytes = set_ms, 0, 0
        if self._store.seq == self._seq:
            return
        rows = await self._store.entries_since(self._seq, PART_KEYS, bare=True)
        if not rows:
            return
        self._seq = rows[-1][0]
        alone = [
            entry for _, entry in rows if self._replicas.reached(entry.key, entry.version) is Durability.LOCAL
        ]
        if alone:
            self._replicas.hand_off(alone, set_ms, before_bytes=self._bytes)
            self._bytes += sum(entry.size_bytes for entry in alone)
