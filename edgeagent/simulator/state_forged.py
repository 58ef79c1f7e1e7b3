"""A hostile member among nodes that keep state: what it sends is refused and counted, and memory stays bounded."""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from edgeagent.simulator.gossip_checks import requires
from edgeagent.simulator.state_node import StateNode
from edgeagent.simulator.state_workload import Workload
from edgeagent.simulator.state_world import StateWorld
from edgeagent.state.entry import Entry, entry_of
from edgeagent.state.hlc import Version
from edgeagent.state.messages import (
    Ack,
    Chunks,
    CommitRequest,
    Custody,
    Have,
    Message,
    Offer,
    Part,
    Release,
    Released,
)
from edgeagent.state.receiving import OFFERS_PER_PEER_MAX
from edgeagent.state.wire import decode, encode

__all__ = ["hostile"]


_CHUNKS = tuple(at.to_bytes(32, "big") for at in range(1024))  # of 256 MiB


class _Mallory:
    # Keeps all that it hears, and says it again to everybody.
    name = "mallory"

    def __init__(self) -> None:
        self.heard: list[Message] = []

    def datagram(self, source: str, data: bytes) -> None:
        self.heard.append(decode(data))

    def frame(self, stream: Hashable, data: bytes) -> None:
        raise NotImplementedError

    def stream_closed(self, stream: Hashable) -> None:
        raise NotImplementedError


def _entry(world: StateWorld, node: StateNode, ahead_ms: int = 0) -> Entry:
    chance = world.chance
    value = chance.randbytes(chance.choice((10, 300_000)))
    version = Version(node.utc_ms() + ahead_ms, 0, "mallory")
    made = entry_of(f"m/{chance.randrange(50)}", value, version)
    if made.chunks and chance.random() < 0.5:
        return msgspec.structs.replace(made, size_bytes=1 << 28, chunks=_CHUNKS)
    return made


def _forge(world: StateWorld, node: StateNode) -> Message:
    chance = world.chance
    ask, transfer = chance.getrandbits(62), chance.choice((1, 2, chance.getrandbits(62)))
    held = [(key, entry.version) for key, entry in node.disk.rows.items()]
    makers = (
        lambda: Offer(ask, chance.getrandbits(62), (_entry(world, node),), custody=True),
        lambda: Offer(ask, transfer, (_entry(world, node, 10_000_000),)),
        lambda: Chunks(ask, transfer, (Part(chance.randrange(9), chance.randbytes(1000)),)),
        lambda: Chunks(ask, transfer, tuple(Part(at, b"x") for at in range(64))),
        lambda: CommitRequest(ask, transfer),
        lambda: CommitRequest(
            ask, transfer, (entry_of("m/x", b"v", Version(1 << 47, 0, "mallory")),), custody=True
        ),
        lambda: Custody(ask, transfer, bytes(16), is_ground=True),
        lambda: Released(ask, b"\xff" * 16, is_ground=True),
        lambda: Have(ask, transfer, b"\xff"),
        lambda: Ack(ask, transfer, (1, 2, 3)),
        lambda: Release(ask, tuple(held[:20]) or (("m/y", Version(1, 0, "a")),)),
    )
    return chance.choice(makers)()


def hostile(world: StateWorld) -> None:
    """See the module."""
    mallory = _Mallory()
    world.wire.attach("mallory", mallory)
    world.wire.visible = None
    for node in world.nodes.values():
        node.free_bytes = 4 << 20
    work = Workload(world)
    for _ in range(5):
        for node in world.nodes.values():
            for _ in range(16):
                message = _forge(world, node)
                if mallory.heard and world.chance.random() < 0.2:
                    message = world.chance.choice(mallory.heard)
                world.wire.send(mallory, "mallory", node.name, encode(message))
        work.run(2.0)
        for node in world.nodes.values():
            assert node.core is not None
            status = node.core.status()
            requires(
                status.open_offers <= OFFERS_PER_PEER_MAX * (len(world.nodes) + 1),
                f"S8 {status.open_offers} offers are open at {node.name}",
            )
    counts = [node.core.status().counts for node in world.nodes.values() if node.core is not None]
    for name in ("replies_unasked", "refused_unknown", "refused_clock"):
        requires(sum(one.get(name, 0) for one in counts) > 0, f"S8 nothing is counted as {name}")
    mine = [key for node in world.nodes.values() for key in node.disk.rows if key == "m/x"]
    requires(not mine, "S8 a version of the far future was taken")
    world.finish()
