"""Links as queues in virtual time: values travel over them in chunks, and share them fairly.

A link sends one chunk at a time, at its rate; the chunk arrives its latency later. The transfers that wait at a link
take turns, a chunk each (fair queueing), so that neither an early nor a large one holds the others up. A chunk goes on
to the next link as soon as it has arrived whole. A disk is a link like others, at the end of a way: its rate is that of
durable writes and its latency that of a commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from edgeagent.simulator.clock import VirtualClock

__all__ = ["CHUNK_BYTES", "Leg", "Network", "unloaded_s"]

CHUNK_BYTES = 256 << 10  # as the state store's


class Leg(NamedTuple):
    """One link of a way. Whoever names the same ``link`` shares it, whatever the latency of the leg."""

    link: Hashable
    rate_bit_s: float
    latency_s: float


class _Transfer:
    """``waiting`` has, for each leg, the chunks that wait at its link."""

    __slots__ = ("done", "legs", "to_come", "waiting")

    def __init__(self, legs: Sequence[Leg], links: Sequence[_Link], done: Callable[[], None]) -> None:
        self.legs = tuple(zip(links, legs, strict=True))
        self.waiting: list[deque[int]] = [deque() for _ in legs]
        self.to_come = 0  # chunks that are not at the end yet
        self.done = done


class _Link:
    """``free_s``: when it has sent what it is sending. ``turns``: (transfer, leg), each once."""

    __slots__ = ("free_s", "is_called", "sent_bytes", "turns")

    def __init__(self) -> None:
        self.free_s = 0.0
        self.is_called = False
        self.turns: deque[tuple[_Transfer, int]] = deque()
        self.sent_bytes = 0


class Network:
    """All links of a world; they come into being when they are first used. ``moved_bytes`` have arrived at the ends of
    their ways.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._links: dict[Hashable, _Link] = {}
        self.moved_bytes = 0

    def sent_bytes(self, link: Hashable) -> int:
        """What has left over a link."""
        found = self._links.get(link)
        return found.sent_bytes if found else 0

    def send(self, legs: Sequence[Leg], size_bytes: int, done: Callable[[], None]) -> None:
        """Send so many bytes from now on; ``done`` is called when the last chunk is at the end of the way."""
        if not legs or size_bytes <= 0:
            self._clock.after(sum(leg.latency_s for leg in legs), done)
            return
        links = [self._links.setdefault(leg.link, _Link()) for leg in legs]
        transfer = _Transfer(legs, links, done)
        whole, rest = divmod(size_bytes, CHUNK_BYTES)
        chunks = [CHUNK_BYTES] * whole + ([rest] if rest else [])
        transfer.to_come = len(chunks)
        for size in chunks:
            self._queue(transfer, 0, size)

    def _queue(self, transfer: _Transfer, at: int, size: int) -> None:
        link, leg = transfer.legs[at]
        if not link.turns and link.free_s <= self._clock.now_s:
            self._begin(link, leg, transfer, at, size)
            return
        if not transfer.waiting[at]:
            link.turns.append((transfer, at))
        transfer.waiting[at].append(size)
        if not link.is_called:
            link.is_called = True
            self._clock.at(link.free_s, self._next, link)

    def _next(self, link: _Link) -> None:
        transfer, at = link.turns.popleft()
        size = transfer.waiting[at].popleft()
        if transfer.waiting[at]:
            link.turns.append((transfer, at))
        self._begin(link, transfer.legs[at][1], transfer, at, size)
        link.is_called = bool(link.turns)
        if link.is_called:
            self._clock.at(link.free_s, self._next, link)

    def _begin(self, link: _Link, leg: Leg, transfer: _Transfer, at: int, size: int) -> None:
        link.sent_bytes += size
        link.free_s = self._clock.now_s + size * 8.0 / leg.rate_bit_s
        self._clock.at(link.free_s + leg.latency_s, self._arrived, transfer, at + 1, size)

    def _arrived(self, transfer: _Transfer, at: int, size: int) -> None:
        if at < len(transfer.legs):
            self._queue(transfer, at, size)
            return
        self.moved_bytes += size
        transfer.to_come -= 1
        if not transfer.to_come:
            transfer.done()


def unloaded_s(legs: Sequence[Leg], size_bytes: int) -> float:
    """How long it takes where nobody else sends, for at least one whole chunk: what a test computes by hand.

    All chunks pass the narrowest link, and one chunk each of the others.
    """
    if not legs:
        return 0.0
    narrowest = min(leg.rate_bit_s for leg in legs)
    first = min(size_bytes, CHUNK_BYTES)
    others = sum(first * 8.0 / leg.rate_bit_s for leg in legs) - first * 8.0 / narrowest
    return size_bytes * 8.0 / narrowest + others + sum(leg.latency_s for leg in legs)
