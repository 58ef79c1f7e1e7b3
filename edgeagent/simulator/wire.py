"""A wire with faults between addresses: datagrams that are lost, doubled, late and overtaken, and streams that break.

What is cut is asked for each direction: partitions, single directed links, clogged nodes, and contacts that are over.
Bytes are counted where they are sent, with what IPv4, UDP and encryption put around a datagram.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable
from typing import Protocol

import msgspec

from edgeagent.simulator.clock import VirtualClock

__all__ = ["DATAGRAM_OVERHEAD_BYTES", "Faults", "Port", "Wire"]

DATAGRAM_OVERHEAD_BYTES = 28 + 64  # IPv4 and UDP headers; the bound of encryption
STREAM_FRAME_OVERHEAD_BYTES = 4 + 52 + 29  # length, a TCP segment's headers, a TLS record's
_REFUSED_S = 0.05
_BROKEN_S = 1.0
_ONCE, _TWICE = range(1), range(2)


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """How bad the wire is. ``late``: the share of datagrams that take ``late_s`` more, and are overtaken."""

    latency_s: tuple[float, float] = (0.0005, 0.002)
    loss: float = 0.0
    duplication: float = 0.0
    late: float = 0.0
    late_s: float = 0.0


class Port(Protocol):
    """Who sits at an address."""

    name: str

    def datagram(self, source: str, data: bytes) -> None: ...

    def frame(self, stream: Hashable, data: bytes) -> None: ...

    def stream_closed(self, stream: Hashable) -> None: ...


class _Stream:
    """Two ends: (port, the name that it has for the stream). ``ready_s``: when the last frame arrives, each way."""

    __slots__ = ("ends", "open", "ready_s")

    def __init__(self, a: tuple[Port, Hashable], b: tuple[Port, Hashable]) -> None:
        self.ends = (a, b)
        self.open = True
        self.ready_s = [0.0, 0.0]


class Wire:
    """See the module. ``visible(a, b)``: whether the geometry has a in sight of b now."""

    def __init__(self, clock: VirtualClock, chance: random.Random) -> None:
        self._clock = clock
        self._chance = chance
        self._ports: dict[str, Port] = {}
        self._streams: dict[tuple[str, Hashable], _Stream] = {}
        self._accepted = 0
        self.faults = Faults()
        self.groups: dict[str, int] = {}  # partitions: those of one number hear each other
        self.cut: set[tuple[str, str]] = set()  # directed
        self.clogged: set[str] = set()
        self.visible: Callable[[str, str], bool] | None = None
        self.path_s: Callable[[str, str], float] | None = (
            None  # what the way takes besides; infinite: there is none
        )
        self.sent_bytes: dict[str, int] = {}
        self.datagrams = 0

    def attach(self, address: str, port: Port) -> None:
        self._ports[address] = port

    def detach(self, address: str) -> None:
        """Nobody is there any more; its streams break."""
        port = self._ports.pop(address, None)
        if port is None:
            return
        for key in [key for key in self._streams if key[0] == port.name]:
            self._break(self._streams[key], port)

    def passes(self, a: str, b: str) -> bool:
        """Whether anything gets from a to b now."""
        # Mostly nothing is cut, and this is asked twice a datagram.
        if self.groups and self.groups.get(a, 0) != self.groups.get(b, 0):
            return False
        if self.cut and (a, b) in self.cut:
            return False
        if self.clogged and (a in self.clogged or b in self.clogged):
            return False
        return self.visible is None or self.visible(a, b)

    def send(self, sender: Port, source: str, address: str, data: bytes) -> None:
        """One datagram."""
        self.datagrams += 1
        self._count(sender.name, len(data) + DATAGRAM_OVERHEAD_BYTES)
        port, faults, chance = self._ports.get(address), self.faults, self._chance
        if port is None or not self.passes(sender.name, port.name):
            return
        if faults.loss and chance.random() < faults.loss:
            return
        copies = _TWICE if faults.duplication and chance.random() < faults.duplication else _ONCE
        for _ in copies:
            delay_s = self._delay_s(sender.name, port.name)
            if delay_s < math.inf:
                self._clock.after(delay_s, self._arrive, address, source, sender.name, data)

    def dial(self, sender: Port, stream: Hashable, address: str, data: bytes) -> None:
        """Open a stream and send a first frame; ``stream_closed`` where nobody answers."""
        port = self._ports.get(address)
        self._count(sender.name, 3 * 40)
        if port is None or not self.passes(sender.name, port.name) or not self.passes(port.name, sender.name):
            self._clock.after(_REFUSED_S if port is None else _BROKEN_S, sender.stream_closed, stream)
            return
        self._accepted += 1
        there = f"accepted-{self._accepted}"
        opened = _Stream((sender, stream), (port, there))
        self._streams[sender.name, stream] = opened
        self._streams[port.name, there] = opened
        self.frame(sender, stream, data)

    def frame(self, sender: Port, stream: Hashable, data: bytes) -> None:
        """One frame; frames of a stream keep their order."""
        self._count(sender.name, len(data) + STREAM_FRAME_OVERHEAD_BYTES)
        opened = self._streams.get((sender.name, stream))
        if opened is None or not opened.open:
            return
        way = 0 if opened.ends[0] == (sender, stream) else 1
        port, there = opened.ends[1 - way]
        if not (self.passes(sender.name, port.name) and self.passes(port.name, sender.name)):
            self._clock.after(_BROKEN_S, self._break, opened, None)
            return
        # A stream repairs losses by waiting.
        lost_s = 0.2 if self._chance.random() < self.faults.loss else 0.0
        opened.ready_s[way] = max(
            opened.ready_s[way], self._clock.now_s + self._delay_s(sender.name, port.name) + lost_s
        )
        self._clock.at(opened.ready_s[way], self._frame_arrives, opened, port, there, data)

    def hang_up(self, sender: Port, stream: Hashable) -> None:
        """End a stream, after what was sent on it has arrived."""
        opened = self._streams.get((sender.name, stream))
        if opened is not None:
            self._clock.at(max(opened.ready_s) + 1e-6, self._break, opened, sender)

    def _delay_s(self, a: str, b: str) -> float:
        low, high = self.faults.latency_s
        delay_s = low + (high - low) * self._chance.random()
        if self.path_s is not None:
            delay_s += self.path_s(a, b)
        if self.faults.late and self._chance.random() < self.faults.late:
            delay_s += self.faults.late_s * self._chance.random()
        return delay_s

    def _arrive(self, address: str, source: str, sender: str, data: bytes) -> None:
        port = self._ports.get(address)
        if port is not None and self.passes(sender, port.name):
            port.datagram(source, data)

    def _frame_arrives(self, opened: _Stream, port: Port, stream: Hashable, data: bytes) -> None:
        if opened.open:
            port.frame(stream, data)

    def _break(self, opened: _Stream, quiet: Port | None) -> None:
        if not opened.open:
            return
        opened.open = False
        for port, stream in opened.ends:
            self._streams.pop((port.name, stream), None)
            if port is not quiet:
                port.stream_closed(stream)

    def _count(self, name: str, size: int) -> None:
        self.sent_bytes[name] = self.sent_bytes.get(name, 0) + size
