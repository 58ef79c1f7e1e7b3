"""Random and mutated packets for a member: each is taken, or refused by a typed error, and nothing else ever happens.

    python -m tests.fuzz.mesh_packets --packets 1000000 --seed 1

Half of them reach the core as if they had been opened; the rest arrive sealed, whole or damaged. A packet that breaks
something is printed in hexadecimal with the line that replays it.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog

from edgeagent.gossip.codec import Accusation, Death, Kind, encode_item, encode_packet
from edgeagent.gossip.effects import (
    Arm,
    Dial,
    Effect,
    Hangup,
    Notify,
    Persist,
    RecordChanged,
    Send,
    StreamSend,
)
from edgeagent.gossip.frames import Digest, Entry, Frame, Summary, Transfer, Want, encode_frame
from edgeagent.gossip.records import Capabilities, Identity, Load, Place, Section
from edgeagent.mesh.errors import SealRefused
from edgeagent.mesh.keyring import Keyring, Secret
from edgeagent.mesh.sealing import SealedPackets
from edgeagent.mesh.sky import Sky, SkySettings
from edgeagent.model.errors import EdgeError
from tests.unit.gossip.parts import EPOCH_MS, Driver, driver, identity, record

__all__ = ["Tally", "fuzz", "good_frames", "good_packets"]

_RING = Keyring("fuzz", (Secret(1, b"s" * 32),), 1)
_EFFECTS = (Arm, Dial, Hangup, Notify, Persist, Send, StreamSend)
_KINDS = [Kind.PING, Kind.ACK, Kind.PING_REQ, Kind.NACK, Kind.GOSSIP]
_HEADS = [
    b"\xdf\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xc1",
    b"\xa4\xff",
]  # long maps and arrays, no UTF-8
_NAMES = ["me", "a", "b", "c", "sat-12", "x" * 64, ""]


class Tally(NamedTuple):
    """How many of each."""

    packets: int
    refused_by_seal: int
    refused_by_codec: int
    members: int


def good_packets(count: int, chance: random.Random) -> list[bytes]:
    """Packets that a member takes."""
    maker, _, _ = _samples(chance)
    return [maker() for _ in range(count)]


def good_frames(count: int, chance: random.Random) -> list[bytes]:
    """Frames of anti-entropy that a member takes."""
    _, _, maker = _samples(chance)
    return [maker() for _ in range(count)]


def _samples(chance: random.Random) -> list[Callable[[], bytes]]:
    """Makers of good packets, twice, and frames."""

    def item() -> bytes:
        name = chance.choice(_NAMES[:5])
        count = chance.choice([1, 2, 1000, 2**40])
        makers: list[Callable[[], bytes]] = [
            lambda: identity(name, count).blob,
            lambda: record(name, Section.PLACE, count, Place(latitude_deg=chance.uniform(-200, 200))).blob,
            lambda: record(name, Section.CAPABILITIES, count, Capabilities("x86", 4)).blob,
            lambda: (
                record(name, Section.LOAD, count, Load(cpu=chance.random()), hops=chance.randrange(16)).blob
            ),
            lambda: record(name, Section.IDENTITY, count, Identity(("h:1", "http://h:2"), left=True)).blob,
            lambda: encode_item(Accusation(name, count, chance.choice(_NAMES[:5]))),
            lambda: encode_item(Death(name, count, chance.choice(_NAMES[:5]))),
        ]
        return chance.choice(makers)()

    def packet() -> bytes:
        names = chance.choice(_NAMES[1:6]), chance.choice(_NAMES)
        items = [item() for _ in range(chance.randrange(4))]
        return encode_packet(
            chance.choice([Kind.PING, Kind.ACK, Kind.PING_REQ, Kind.NACK, Kind.GOSSIP]),
            names[0],
            chance.randrange(2**16),
            names[1],
            items,
        )

    def frame() -> bytes:
        entry = Entry(chance.choice(_NAMES[:5]), 5, (1, None, -2, 3, None))
        frames: list[Frame] = [
            Summary("a", chance.randbytes(8 * chance.choice([1, 2, 256]))),
            Digest(chance.randbytes(3), [entry], chance.random() < 0.5),
            Transfer([item()], [Want("sat-12", chance.randrange(64))], chance.random() < 0.5),
        ]
        return encode_frame(chance.choice(frames))

    return [packet, packet, frame]


def _mutated(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or put in."""
    out = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(out) + 1)
        match chance.randrange(5):
            case 0 if out:
                out[at % len(out)] ^= 1 << chance.randrange(8)
            case 1:
                out[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 2:
                del out[at : at + chance.randrange(1, 9)]
            case 3:
                out[at:at] = out[: chance.randrange(1, 33)]
            case _:
                out[at : at + 1] = chance.choice(
                    [b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc1", b"\xa4\xff"]
                )
    return bytes(out)


class _Target:
    """A member with friends, its seal and its sky."""

    def __init__(self) -> None:
        self.one: Driver = driver("me")
        for name in ("a", "b", "c"):
            self.one.receive(f"{name}:1", encode_packet(Kind.GOSSIP, name, 0, "", [identity(name).blob]))
        self.theirs = SealedPackets(_RING, "a", EPOCH_MS, b"12345678", lambda: 0.0)
        self.ours = SealedPackets(_RING, "me", EPOCH_MS, b"87654321", lambda: 0.0)
        self.sky = Sky(SkySettings(), lambda: None)
        self.refused = 0
        self.streams = 0

    def datagram(self, data: bytes) -> None:
        self._check(self.one.receive("a:1", data))

    def frame(self, data: bytes) -> None:
        self.streams += 1
        name = ("in", self.streams % 8)
        self._check(self.one.take(self.one.mesh.on_stream(self.one.now_s, name, data)))

    def sealed(self, data: bytes) -> None:
        try:
            opened = self.ours.open(data, "a:1")
        except SealRefused:
            self.refused += 1
            return
        self.datagram(opened)

    def pass_time(self, seconds: float) -> None:
        self._check(self.one.run(seconds))

    def _check(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert isinstance(effect, _EFFECTS)
            if isinstance(effect, Send):
                assert len(effect.data) <= 1400
            if isinstance(effect, Notify) and isinstance(effect.notice, RecordChanged):
                self.sky.take(effect.notice.record)


def fuzz(packets: int, seed: int, say: Callable[[str], None] = lambda _: None) -> Tally:
    """Raises AssertionError, or whatever broke, after saying which packet did it."""
    chance = random.Random(seed)
    target, makers = _Target(), _samples(chance)
    for number in range(packets):
        kind = chance.randrange(6)
        data = chance.randbytes(chance.randrange(120)) if kind == 0 else chance.choice(makers)()
        data = data if kind == 1 else _mutated(data, chance)
        way = chance.choice([target.datagram, target.frame, target.sealed, target.sealed])
        if way == target.sealed:
            data = target.theirs.seal(data)
            data = data if chance.random() < 0.5 else _mutated(data, chance)
        try:
            way(data)
            if number % 64 == 0:
                target.pass_time(chance.choice([0.01, 0.3, 5.0]))
        except EdgeError as error:
            say(f"packet {number} of seed {seed}: {error!r} reached the shell: {data.hex()}")
            raise
        except Exception as error:
            say(f"packet {number} of seed {seed} broke it by {error!r}: {data.hex()}")
            raise
    return Tally(
        packets, target.refused, target.one.mesh.counters.datagrams_refused, len(target.one.mesh.states())
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    begun = time.monotonic()
    tally = fuzz(args.packets, args.seed, print)
    sys.stdout.write(f"{tally} in {time.monotonic() - begun:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
