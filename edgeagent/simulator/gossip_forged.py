"""The scenario of an insider who forges: records of others and of nobody, accusations, noise. Tables stay bounded."""

from __future__ import annotations

import msgspec

from edgeagent.gossip.codec import Accusation, Death, Kind, encode_item, encode_packet, encode_record
from edgeagent.gossip.records import Identity, first_version, write_payload
from edgeagent.simulator.gossip_checks import converges, nobody_alive_is_dead, requires
from edgeagent.simulator.gossip_faulty import settle
from edgeagent.simulator.gossip_node import signature_of
from edgeagent.simulator.gossip_world import UTC_AT_ZERO_S, GossipWorld

__all__ = ["forged", "forged_record"]

_FAR_FUTURE = first_version(round(UTC_AT_ZERO_S * 1000) * 2)


def forged_record(name: str, version: int, signer: str = "") -> bytes:
    """An identity record of ``name`` that somebody else signed, or nobody."""
    payload = write_payload(Identity(("attacker",)))
    signature = signature_of(signer, name.encode()) if signer else b""
    return encode_record(name, 0, version, payload, signature=signature).blob


def forged(world: GossipWorld) -> None:
    """P8 and more: nothing that is forged changes a view, and all that is held stays within its bound."""
    settle(world)
    chance = world.chance
    names = list(world.nodes)
    insider, victims = names[0], names[1:]
    for turn in range(400):
        target = chance.choice(victims)
        about = chance.choice([name for name in victims if name != target])
        match turn % 5:
            case 0:
                item = forged_record(f"nobody-{turn}", _FAR_FUTURE, insider)
            case 1:
                item = forged_record(about, _FAR_FUTURE, insider)
            case 2:
                item = encode_item(Accusation(about, _FAR_FUTURE, insider))
            case 3:
                item = encode_item(Death(f"nobody-{turn}", 7, insider))
            case _:
                item = chance.randbytes(40)
        data = encode_packet(Kind.GOSSIP, insider, 0, "", [item])
        world.nodes[target].datagram(insider, data)
        world.nodes[target].datagram(insider, data[: chance.randrange(len(data))])
        world.run(0.05)
    nobody_alive_is_dead(world)
    for name in victims:
        mesh = world.nodes[name].mesh
        assert mesh is not None
        requires(
            len(mesh.states()) == len(names) - 1, f"P8 {name} believes in forged names: {list(mesh.states())}"
        )
        requires(
            mesh.counters.records_refused > 0,
            f"{name} refused nothing: {msgspec.structs.asdict(mesh.counters)}",
        )
    converges(world, 60.0)
