"""Nodes with state in one process: real stores on disk and all that rests on them, without sockets and gossip."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from edgeagent.mesh.holdings import Neighbour
from edgeagent.model.errors import PeerFailed
from edgeagent.node.config_schema import StateSection
from edgeagent.node.key_state import KeyState
from edgeagent.node.membership import Membership
from edgeagent.node.meters import Meters
from edgeagent.node.peer_http import PeerReply
from edgeagent.node.remote_hoses import RemoteHoses
from edgeagent.state.calls import Done, Group, GroupDone, Op
from edgeagent.state.fetching import ChunksWanted, Fetch, read, write

__all__ = ["Cluster", "cluster", "put"]


class Sky:
    """What one node knows of the others."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster = cluster
        self._node = node
        self.said: list[bytes] = []
        self.until_s: dict[str, float] = {}

    is_on = True
    orbital_speed = 1.0
    expects_others = False

    def neighbours(self) -> list[Neighbour]:
        of = self._cluster
        return [
            Neighbour(
                id=one,
                kind=of.kinds[one],
                is_reachable=of.sees(self._node, one),
                is_occluded=not of.sees(self._node, one) and one not in of.unheard,
                groups=frozenset(of.skies[one].said),
                more=False,
            )
            for one in of.kinds
            if one != self._node
        ]

    def say_state(self, digests: list[bytes]) -> None:
        self.said = digests

    def returns_in_s(self, node: str) -> float | None:
        return None if self._cluster.sees(self._node, node) else 90.0

    def contact_until_utc_s(self, node: str) -> float:
        return self.until_s.get(node, math.inf)


class Wire:
    """Requests of one node to the others. ``spoil`` changes a reply on its way."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster = cluster
        self._node = node
        self.asked: list[tuple[str, str]] = []
        self.spoil: Callable[[str, str, bytes], bytes] = lambda node, path, reply: reply

    async def ask(
        self,
        node: str,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> PeerReply:
        assert method == "POST"
        return await self.exchange(node, path, body, timeout_s)

    async def exchange(self, node: str, path: str, data: bytes, timeout_s: float) -> PeerReply:
        self.asked.append((node, path))
        if not self._cluster.sees(self._node, node):
            raise PeerFailed(f"{node} does not answer", peer=node)
        there = self._cluster.nodes[node]
        reply = self.spoil(node, path, await self._reply(there, path, data))
        if not self._cluster.sees(self._node, node):
            raise PeerFailed(f"{node} was cut off", peer=node)
        return PeerReply({}, reply)

    async def _reply(self, there: KeyState, path: str, data: bytes) -> bytes:
        match path:
            case "/v1/state:group":
                wanted = msgspec.msgpack.decode(data, type=Group)
                return msgspec.msgpack.encode(await there.group(wanted))
            case "/v1/state:fetch":
                return write(await there.views.fetch(read(data, Fetch)))
            case "/v1/state:chunks":
                return write(await there.views.chunks(read(data, ChunksWanted)))
            case "/v1/state:transfer":
                return await there.transfer(self._node, data)
        raise AssertionError(path)


class Cluster:
    """``kinds``: of the nodes by name. ``cut``: pairs that do not reach each other."""

    def __init__(self, folder: Path, kinds: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        self._folder = folder
        self._section = StateSection(**{"scrub_bytes_per_s": 0, "read_ms": 500, **settings})
        self.kinds = dict(kinds)
        self.cut: set[frozenset[str]] = set()
        self.unheard: set[str] = set()  # of whose address nobody has heard yet
        self.down: set[str] = set(kinds)
        self.skies: dict[str, Sky] = {name: Sky(self, name) for name in kinds}
        self.wires: dict[str, Wire] = {name: Wire(self, name) for name in kinds}
        self.nodes: dict[str, KeyState] = {}
        self.meters: dict[str, Meters] = {}

    def sees(self, one: str, other: str) -> bool:
        return not {one, other} & self.down and frozenset((one, other)) not in self.cut

    def alone(self, name: str) -> None:
        """Out of everybody's sight."""
        self.cut |= {frozenset((name, one)) for one in self.kinds if one != name}

    def directory(self, name: str) -> Path:
        return self._folder / name

    async def up(self, name: str, **settings: Any) -> KeyState:
        section = msgspec.structs.replace(self._section, **settings)
        self.meters[name] = Meters()
        node = KeyState(
            section,
            self.directory(name),
            cast(Membership, self.skies[name]),
            cast(RemoteHoses, self.wires[name]),
            self.meters[name],
            node_id=name,
            kind=self.kinds[name],
        )
        node.circle.looks_every_s = 0.0
        await node.open()
        self.nodes[name] = node
        self.down.discard(name)
        await node.start()
        return node

    async def end(self, name: str) -> None:
        self.down.add(name)
        await self.nodes[name].close()


@contextlib.asynccontextmanager
async def cluster(folder: Path, *kinds: str, **settings: Any) -> AsyncIterator[Cluster]:
    """Nodes n0, n1, ... of these kinds, all in sight of each other."""
    made = Cluster(folder, {f"n{at}": kind for at, kind in enumerate(kinds)}, settings)
    try:
        for name in made.kinds:
            await made.up(name)
        async with asyncio.timeout(60):
            yield made
    finally:
        for node in made.nodes.values():
            await node.close()


async def put(node: KeyState, key: str, value: bytes, **more: Any) -> Done:
    of_group = {name: more.pop(name) for name in ("durability", "deadline_ms", "session") if name in more}
    wanted = Group(ops=[Op(op="put", key=key, value=value, **more)], **of_group)
    done: GroupDone = await node.group(wanted)
    return done.results[0]
