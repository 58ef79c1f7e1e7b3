"""Rumours and how often they were told: SWIM's piggybacked dissemination (section 4.1 of the paper).

What was told least goes first. Each rumour is told at most ``limit`` times, ``retransmit_mult * ceil(log10(n + 1))``,
which reaches everybody with high probability; anti-entropy finds the rest. News about a subject replaces older news
about it. Taking costs time in proportion to what is taken, whatever waits.
"""

from __future__ import annotations

import math
from itertools import islice

from edgeagent.gossip.codec import ITEM_OVERHEAD_BYTES

__all__ = ["Rumours", "retransmit_limit"]

Subject = tuple[str, int]  # a member's name and a section; accusations and deaths belong to section 0
_LOOK_MAX = 32  # rumours of one level that are looked at for one datagram
_SMALLEST_ITEM_BYTES = 24


def retransmit_limit(mult: int, members: int) -> int:
    """How often each member tells a rumour."""
    return mult * math.ceil(math.log10(members + 1))


class Rumours:
    """What waits to be told, in levels by how often it was."""

    __slots__ = ("_level_of", "_levels", "_size_max", "dropped")

    def __init__(self, size_max: int) -> None:
        self._levels: list[dict[Subject, bytes]] = [{}]
        self._level_of: dict[Subject, int] = {}
        self._size_max = size_max
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._level_of)

    def put(self, subject: Subject, blob: bytes) -> None:
        """Tell this from now on, in place of older news about the subject."""
        self.drop(subject)
        if len(self._level_of) >= self._size_max:
            self._drop_most_told()
        self._levels[0][subject] = blob
        self._level_of[subject] = 0

    def drop(self, subject: Subject) -> None:
        """Say nothing more about it."""
        level = self._level_of.pop(subject, None)
        if level is not None:
            del self._levels[level][subject]

    def take(self, budget_bytes: int, limit: int) -> list[bytes]:
        """Items for one datagram, each counted as told once."""
        if not self._level_of:
            return []
        taken: list[bytes] = []
        told: list[tuple[Subject, bytes, int]] = []
        for number, level in enumerate(self._levels):
            if not level:
                continue
            for subject, blob in islice(level.items(), _LOOK_MAX):
                size = len(blob) + ITEM_OVERHEAD_BYTES
                if size <= budget_bytes:
                    budget_bytes -= size
                    taken.append(blob)
                    told.append((subject, blob, number))
            if budget_bytes < _SMALLEST_ITEM_BYTES:
                break
        for subject, blob, number in told:
            self._count(subject, blob, number, limit)
        return taken

    def _count(self, subject: Subject, blob: bytes, number: int, limit: int) -> None:
        del self._levels[number][subject]
        if number + 1 >= limit:
            del self._level_of[subject]
            return
        if number + 1 == len(self._levels):
            self._levels.append({})
        self._levels[number + 1][subject] = blob
        self._level_of[subject] = number + 1

    def _drop_most_told(self) -> None:
        for level in reversed(self._levels):
            if level:
                self.drop(next(iter(level)))
                self.dropped += 1
                return
