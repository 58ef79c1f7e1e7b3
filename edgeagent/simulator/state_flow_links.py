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
    __slots__ = ("done", "legs", "to_come")

    def __init__(self, legs: Sequence[Leg], chunks: int, done: Callable[[], None]) -> None:
        self.legs = legs
        self.to_come = chunks  # chunks that are not at the end yet
        self.done = done


class _Turn:
    """What one transfer has waiting at one link."""

    __slots__ = ("at", "chunks", "transfer")

    def __init__(self, transfer: _Transfer, at: int) -> None:
        self.transfer = transfer
        self.at = at
        self.chunks: deque[int] = deque()


class _Link:
    __slots__ = ("is_busy", "queued", "sent_bytes", "turns")

    def __init__(self) -> None:
        self.is_busy = False
        self.turns: deque[_Turn] = deque()
        self.queued: dict[tuple[_Transfer, int], _Turn] = {}
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
        whole, rest = divmod(size_bytes, CHUNK_BYTES)
        chunks = [CHUNK_BYTES] * whole + ([rest] if rest else [])
        transfer = _Transfer(tuple(legs), len(chunks), done)
        self._queue(transfer, 0, chunks)

    def _queue(self, transfer: _Transfer, at: int, chunks: Sequence[int]) -> None:
        leg = transfer.legs[at]
        link = self._links.get(leg.link)
        if link is None:
            link = self._links[leg.link] = _Link()
        turn = link.queued.get((transfer, at))
        if turn is None:
            turn = link.queued[transfer, at] = _Turn(transfer, at)
            link.turns.append(turn)
        turn.chunks.extend(chunks)
        if not link.is_busy:
            self._next(link)

    def _next(self, link: _Link) -> None:
        if not link.turns:
            link.is_busy = False
            return
        link.is_busy = True
        turn = link.turns.popleft()
        size = turn.chunks.popleft()
        if turn.chunks:
            link.turns.append(turn)
        else:
            del link.queued[turn.transfer, turn.at]
        sending_s = size * 8.0 / turn.transfer.legs[turn.at].rate_bit_s
        self._clock.after(sending_s, self._sent, link, turn.transfer, turn.at, size)

    def _sent(self, link: _Link, transfer: _Transfer, at: int, size: int) -> None:
        link.sent_bytes += size
        self._clock.after(transfer.legs[at].latency_s, self._arrived, transfer, at, size)
        self._next(link)

    def _arrived(self, transfer: _Transfer, at: int, size: int) -> None:
        if at + 1 < len(transfer.legs):
            self._queue(transfer, at + 1, (size,))
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
