"""Who of several writers is first: one node decides, so that of those who write at once at many nodes one wins.

1. A condition (of a key that no node owns), a key that is written once, the first write of an ``owner`` key and its
   takeover are decided by the key's home: the first of the members that can be asked, by rendezvous hashing. Its one
   writer's thread is the order. A group is decided at the home of its first such key.
2. What an ``owner`` key holds its owner decides.
3. A step that writes keys of its own run waits for no other node: there the run's epoch and the versions decide.
4. Where members do not agree on who can be asked, as in a partition, there may be two homes: what they have decided
   meets as docs/state.md says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from edgeagent.node.state_ground import GROUND_STORE
from edgeagent.node.state_reader import Asker
from edgeagent.node.state_views import StateViews
from edgeagent.state.calls import Done, Group, GroupDone, Op
from edgeagent.state.entry import Durability, Entry, Mode
from edgeagent.state.fetching import read
from edgeagent.state.hlc import NONE, Version, read_version
from edgeagent.state.keys import RUNS
from edgeagent.state.session import Session, read_session

__all__ = ["StateDecider"]

_ANSWER_S = 1.0  # what is late there is said by the one who knows how far it came


class StateDecider:
    """On the event loop's thread."""

    def __init__(self, views: StateViews, ask: Asker, mode_of: Callable[[str], Mode]) -> None:
        self._views = views
        self._circle = views.circle
        self._node_id = views.node_id
        self._ask = ask
        self._mode_of = mode_of

    def depends(self, op: Op) -> bool:
        """Whether the answer to a write depends on what there is."""
        mode = op.mode or self._mode_of(op.key)
        return op.expect is not None or mode is not Mode.LWW or op.op == "delete"

    async def home_of(self, writes: Sequence[Op], run: str, session: Session, deadline_s: float) -> str:
        """The other node that is to decide these writes, "" for this one. Raises Behind."""
        own = f"{RUNS}{run}/" if run else ""
        asked = [op for op in writes if self.depends(op) and not (own and op.key.startswith(own))]
        if not asked:
            return ""
        known = {entry.key: entry for entry in await self._views.store.held([op.key for op in asked])}
        new = [op for op in asked if self._is_owned(op) and op.key not in known]
        if new:  # its owner may be elsewhere
            known |= {
                entry.key: entry for entry, _ in await self.newer(new, known, session, deadline_s, bare=True)
            }
        for op in sorted(asked, key=lambda one: one.key):
            if self._is_open(op, known.get(op.key)):
                home = self._circle.homes_of(op.key)[0]
                return "" if home == self._node_id else home
        return ""

    def _is_owned(self, op: Op) -> bool:
        return (op.mode or self._mode_of(op.key)) is Mode.OWNER

    def _is_open(self, op: Op, held: Entry | None) -> bool:
        if held is not None and held.mode is Mode.OWNER and held.is_there(_utc_ms()):
            return op.takeover
        if held is not None and held.mode is Mode.ONCE and held.is_there(_utc_ms()) and op.expect is None:
            return op.op == "delete"  # what is written once stays: this node can say so
        return op.expect is not None or (op.mode or self._mode_of(op.key)) is not Mode.LWW

    async def newer(
        self,
        asked: Sequence[Op],
        known: Mapping[str, Entry],
        session: Session,
        deadline_s: float,
        *,
        bare: bool = False,
    ) -> list[tuple[Entry, bytes | None]]:
        """What others have that is newer than ``known``, with its values but for ``bare``. Raises Behind."""
        sought = [op for op in asked if op.key not in known or known[op.key].mode is not Mode.ONCE]
        if not sought:
            return []
        expected = {op.key: read_version(op.expect) for op in sought if op.expect}

        def least(key: str) -> Version:
            return max(session.least(key), expected.get(key, NONE))

        reader, ground = self._views.reader, self._views.ground
        keys = [op.key for op in sought]
        found = await reader.newest(keys, known, least, deadline_s=deadline_s, is_sought=False)
        newer: list[tuple[Entry, bytes | None]] = []
        for entry, nodes, _ in found.values():
            value = None
            if not bare and entry.is_there(_utc_ms()):
                value = await reader.value_of(entry, nodes, deadline_s=deadline_s)
            newer.append((entry, value))
        if ground is not None:
            there, moved = await ground.seek([key for key in keys if key not in found and key not in known])
            if moved:  # what it depends on is not to be had
                raise reader.behind(next(iter(moved)), [GROUND_STORE])
            newer += there.values()
        return newer

    async def at(
        self,
        node: str,
        writes: Sequence[Op],
        wanted: Group,
        session: Session,
        deadline_s: float,
        *,
        decide: bool,
    ) -> tuple[dict[str, Done], Durability]:
        """The keys' home or their owner writes them. Raises what it says, PeerFailed and DeadlineExceeded."""
        left_s = max(0.001, deadline_s - asyncio.get_running_loop().time())
        ops = (
            [msgspec.structs.replace(op, owner=op.owner or self._node_id) for op in writes]
            if decide
            else writes
        )
        there = Group(
            ops=list(ops),
            durability=wanted.durability,
            deadline_ms=left_s * 1000,
            session=session.text(),
            here_only=not decide,
            decide=decide,
        )
        reply = await self._ask(node, "/v1/state:group", msgspec.msgpack.encode(there), left_s + _ANSWER_S)
        done = read(reply, GroupDone)
        session.join(read_session(done.session))
        return {one.key: one for one in done.results}, done.durability


def _utc_ms() -> int:
    return int(time.time() * 1000)
