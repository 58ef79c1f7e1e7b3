"""Who holds what, as this node knows it: the members around it, the homes of a group, and what it holds itself.

A member that gossip says is there, and whose address has not come yet, is *unheard*: nobody is asked instead of it, and
who depends on it waits a moment.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from edgeagent.state.keys import digest_of, group_of
from edgeagent.state.targets import ranked

if TYPE_CHECKING:
    from edgeagent.mesh.holdings import Neighbour
    from edgeagent.node.membership import Membership

__all__ = ["GROUND_KINDS", "StateCircle"]

GROUND_KINDS = frozenset({"ground", "cloud", "edge"})
GATHER_S = 3.0
UNHEARD_S = 30.0  # then it has no address for HTTP
_GATHER_LOOK_S = 0.05
_LOOK_S = 0.25
_GROUPS_MAX = 4096
_HOMES = 2
_ASKED_MAX = 16


class StateCircle:
    """On the event loop's thread."""

    def __init__(
        self, membership: Membership, node_id: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._membership = membership
        self._node_id = node_id
        self._clock = clock
        self.looks_every_s = _LOOK_S
        self._looked_s = -1e9
        self._around: dict[str, Neighbour] = {}
        self._gathers_until_s = -1e9
        self._unheard_s: dict[
            str, float
        ] = {}  # members that are there, and whose address is not known, since when
        self._held: OrderedDict[str, None] = OrderedDict()  # groups here, the newest last

    # -- a node that has just begun ---------------------------------------------------------------------------

    def begin(self) -> None:
        """The mesh is being joined: for a moment this node knows of nobody, and is not alone all the same."""
        self._gathers_until_s = self._clock() + GATHER_S

    def is_gathering(self) -> bool:
        """Whether this node has begun a moment ago and knows of nobody, or a member has and it is not known how to ask
        it.
        """
        now_s = self._clock()
        if not self.around() and now_s < self._gathers_until_s:
            return self._membership.expects_others
        return bool(self._unheard_s) and any(
            now_s - since_s < GATHER_S for since_s in self._unheard_s.values()
        )

    def unheard(self) -> list[str]:
        """Members that are there, and that cannot be asked yet: for so long nobody knows what they hold."""
        self.around()
        now_s = self._clock()
        return [one for one, since_s in self._unheard_s.items() if now_s - since_s < UNHEARD_S]

    async def gathered(self, deadline_s: float) -> None:
        """Until it has, or has waited long enough; ``deadline_s``: of the loop's clock."""
        loop = asyncio.get_running_loop()
        while self.is_gathering() and loop.time() < deadline_s:  # noqa: ASYNC110 - gossip brings it about
            await asyncio.sleep(_GATHER_LOOK_S)

    # -- what is held here -----------------------------------------------------------------------------------

    def holds(self, keys: Iterable[str]) -> None:
        """These keys are here now."""
        for key in keys:
            group = group_of(key)
            if group in self._held:
                self._held.move_to_end(group)
            else:
                self._held[group] = None
        while len(self._held) > _GROUPS_MAX:
            self._held.popitem(last=False)

    def tell(self) -> None:
        """Gossip hears of it."""
        newest = [digest_of(group) for group in reversed(self._held)]
        self._membership.say_state(newest)

    # -- the others ------------------------------------------------------------------------------------------

    def around(self) -> dict[str, Neighbour]:
        """By id, as of a moment ago."""
        now_s = self._clock()
        if now_s - self._looked_s >= self.looks_every_s:
            self._looked_s = now_s
            self._around = {one.id: one for one in self._membership.neighbours()}
            unheard = [
                one.id for one in self._around.values() if not one.is_reachable and not one.is_occluded
            ]
            self._unheard_s = {one: self._unheard_s.get(one, now_s) for one in unheard}
        return self._around

    def reachable(self) -> list[str]:
        """Ids of members that can be asked now."""
        return [one.id for one in self.around().values() if one.is_reachable]

    def homes_of(self, key: str) -> list[str]:
        """Where the key's group is at home, of this node and all that can be asked."""
        return ranked(group_of(key), [*self.reachable(), self._node_id])[:_HOMES]

    def ranked(self, key: str, first: Iterable[str] = ()) -> tuple[list[str], list[str]]:
        """Whom to ask for a key: those who should have it (``first``, the homes, who says that it holds the group), and
        then some who might.
        """
        around, digest = self.around(), digest_of(group_of(key))
        likely = dict.fromkeys(first)
        likely.update(dict.fromkeys(self.homes_of(key)))
        likely.update(dict.fromkeys(one.id for one in around.values() if digest in one.groups))
        should = [one for one in likely if one in around and around[one].is_reachable]
        might = ranked(group_of(key), [one for one in self.reachable() if one not in likely])
        return should[:_ASKED_MAX], might[:_ASKED_MAX]

    def out_of_sight(self, key: str) -> list[str]:
        """Members that say they hold the key's group, and cannot be asked now."""
        digest = digest_of(group_of(key))
        return [one.id for one in self.around().values() if not one.is_reachable and digest in one.groups]

    def is_ground(self, node: str) -> bool:
        """Whether a member stands on the ground."""
        found = self.around().get(node)
        return found is not None and found.kind in GROUND_KINDS

    def returns_in_s(self, nodes: Iterable[str]) -> float | None:
        """Seconds until the first of them is expected back, None: nobody knows."""
        found = [self._membership.returns_in_s(one) for one in nodes]
        known = [one for one in found if one is not None]
        return min(known) if known else None
