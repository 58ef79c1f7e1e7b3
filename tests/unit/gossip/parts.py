"""Members for the tests: records, cores, and what their effects say."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from edgeagent.gossip.codec import Items, Kind, Packet, decode_packet, encode_packet, encode_record
from edgeagent.gossip.context import Ports
from edgeagent.gossip.core import Mesh
from edgeagent.gossip.effects import Arm, Effect, MemberChanged, Notify, Send
from edgeagent.gossip.knobs import Knobs
from edgeagent.gossip.presets import preset
from edgeagent.gossip.records import Identity, Record, first_version, write_payload

__all__ = [
    "EPOCH_MS",
    "Driver",
    "changes",
    "driver",
    "identity",
    "introduce",
    "knobs_with",
    "mesh",
    "packet",
    "packets",
    "record",
    "sent",
]

EPOCH_MS = 1_790_000_000_000


def mesh(
    name: str = "me", knobs: Knobs | None = None, *, seed: int = 1, started: bool = True, **ports: Any
) -> Mesh:
    """A core; unsigned records and no plan unless ``ports`` says otherwise."""
    chance = random.Random(seed)
    one = Mesh(
        name,
        Identity((f"{name}:1",)),
        knobs or preset("lan"),
        Ports(chance=chance, **{"items": Items(), **ports}),
        epoch_ms=EPOCH_MS,
    )
    if started:
        one.start(0.0)
    return one


def record(name: str, section: int, count: int, value: Any, signature: bytes = b"", hops: int = 0) -> Record:
    version = first_version(EPOCH_MS) + count
    return encode_record(name, section, version, write_payload(value), signature=signature, hops=hops)


def identity(name: str, count: int = 1, *, left: bool = False, signature: bytes = b"") -> Record:
    return record(name, 0, count, Identity((f"{name}:1",), left=left), signature)


def packet(kind: int, sender: str, seq: int = 0, target: str = "", *items: bytes) -> bytes:
    return encode_packet(kind, sender, seq, target, list(items))


def introduce(one: Mesh, *names: str, now_s: float = 0.0) -> None:
    """Let a core know some members."""
    for name in names:
        one.on_datagram(now_s, f"{name}:1", packet(Kind.GOSSIP, name, 0, "", identity(name).blob))


def sent(effects: list[Effect]) -> list[tuple[str, Packet]]:
    """(address, packet) of each datagram."""
    return [(effect.address, decode_packet(effect.data)) for effect in effects if isinstance(effect, Send)]


def packets(effects: list[Effect], kind: int) -> list[tuple[str, Packet]]:
    return [(address, one) for address, one in sent(effects) if one.kind == kind]


def changes(effects: list[Effect]) -> list[tuple[str, str, str]]:
    """(name, before, after) of each change."""
    notices = [effect.notice for effect in effects if isinstance(effect, Notify)]
    return [
        (one.name, one.before.value if one.before else "-", one.after.value if one.after else "-")
        for one in notices
        if isinstance(one, MemberChanged)
    ]


def token(effects: list[Effect]) -> Arm | None:
    """The last timer asked for."""
    return next((effect for effect in reversed(effects) if isinstance(effect, Arm)), None)


class Driver:
    """Runs one core's timers in virtual time; nobody answers unless the test does."""

    def __init__(self, one: Mesh, effects: list[Effect], now_s: float = 0.0) -> None:
        self.mesh = one
        self.now_s = now_s
        self.effects: list[Effect] = []
        self._arm: Arm | None = None
        self.take(effects)

    def take(self, effects: list[Effect]) -> list[Effect]:
        self.effects += effects
        self._arm = token(effects) or self._arm
        return effects

    def receive(self, source: str, data: bytes) -> list[Effect]:
        return self.take(self.mesh.on_datagram(self.now_s, source, data))

    def run(self, for_s: float) -> list[Effect]:
        """Let time pass; returns what came of it."""
        end_s = self.now_s + for_s
        found: list[Effect] = []
        while self._arm is not None and self._arm.at_s <= end_s:
            self.now_s, arm = max(self.now_s, self._arm.at_s), self._arm
            self._arm = None
            found += self.take(self.mesh.on_timer(self.now_s, arm.token))
        self.now_s = end_s
        return found


def driver(name: str = "me", knobs: Knobs | None = None, **ports: Any) -> Driver:
    one = mesh(name, knobs, started=False, **ports)
    return Driver(one, one.start(0.0))


def knobs_with(**changed: Any) -> Knobs:
    return msgspec.structs.replace(preset("lan"), **changed)
