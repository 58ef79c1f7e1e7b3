"""The bytes of a guest's memory that are known before it runs, and how much of a module is followed at all."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

from edgeagent.accel.wasm_module import Segment, Skeleton

__all__ = ["Effort", "EffortSpent", "Memory"]

_KNOWN_BYTES_MAX = 1 << 20
_SEGMENTS_MAX = 4096
# Instructions followed, bytes read and stored: some seconds of them at most.
_EFFORT = 600_000


class EffortSpent(Exception):
    """The module has more in it than is followed."""


class Effort:
    """How much more is followed of a module."""

    def __init__(self, most: int = _EFFORT) -> None:
        self._left = most

    def spend(self, count: int) -> None:
        """Raises EffortSpent."""
        self._left -= count
        if self._left < 0:
            raise EffortSpent


class Memory:
    """Data segments, and what was stored over them. All of it raises EffortSpent."""

    def __init__(self, wasm: bytes, module: Skeleton, effort: Effort) -> None:
        self.effort = effort
        self._wasm = wasm
        self._passive = module.passive
        segments = module.data[:_SEGMENTS_MAX]
        ordered = sorted(segments, key=lambda one: one.address)
        # Apart from each other, as linkers lay them, they need no look at each one.
        self._apart = all(
            left.address + left.size <= right.address for left, right in itertools.pairwise(ordered)
        )
        self._segments = ordered if self._apart else segments
        self._starts = [one.address for one in ordered] if self._apart else []
        self._stored: dict[int, int | None] = {}

    def store(self, at: int, value: int | None, size: int) -> None:
        if value is None:
            self.store_bytes(at, [None] * size)
        else:
            self.store_bytes(at, list((value & (1 << 8 * size) - 1).to_bytes(size, "little")))

    def store_bytes(self, at: int, data: Sequence[int | None]) -> None:
        self.effort.spend(len(data) // 4 + 1)
        stored = self._stored
        if len(stored) + len(data) < _KNOWN_BYTES_MAX:
            stored.update(zip(range(at, at + len(data)), data, strict=True))

    def number(self, at: int, size: int, *, signed: bool = False) -> int | None:
        """None where a byte of it is not known."""
        data = self.read(at, size)
        known = [byte for byte in data if byte is not None]
        return int.from_bytes(bytes(known), "little", signed=signed) if len(known) == size else None

    def read(self, at: int, size: int) -> list[int | None]:
        """The bytes from ``at``, None for those that are not known."""
        self.effort.spend(size // 4 + 1)
        found: list[int | None] = [None] * size
        for segment in self._near(at, size):
            low = max(at, segment.address)
            high = min(at + size, segment.address + segment.size)
            if low < high:
                first = segment.offset + low - segment.address
                found[low - at : high - at] = self._wasm[first : first + high - low]
        stored = self._stored
        if stored:
            for i in range(size):
                if at + i in stored:
                    found[i] = stored[at + i]
        return found

    def passive(self, segment: int, start: int, size: int) -> list[int]:
        """Bytes of a segment that ``memory.init`` copies; none where they are not there."""
        one = self._passive.get(segment)
        if one is None or start + size > one.size:
            return []
        return list(self._wasm[one.offset + start : one.offset + start + size])

    def _near(self, at: int, size: int) -> list[Segment]:
        if not self._apart:
            self.effort.spend(len(self._segments))
            return self._segments
        first = max(0, bisect.bisect_right(self._starts, at) - 1)
        end = bisect.bisect_left(self._starts, at + size)
        self.effort.spend(max(0, end - first))
        return self._segments[first:end]
