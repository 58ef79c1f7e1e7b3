"""Who goes next to a GPU, or to a thread, that many functions share. Pure: no clock.

Theory of operation. Each function has a virtual time: the seconds of the GPU that it has had. The one with the least of
those that wait goes next, and its own calls in their order. Two rules keep that fair:

1. What a call takes is only known afterwards. It is charged what the last ones of its function took, and set right
   when it has ended: two functions that always wait differ by no more than some of their longest calls.
2. Who waited for nothing while others worked has saved up no right to the GPU: its time is set to that of those who
   wait. So nobody is kept waiting by one who comes back from a pause.

The queue is bounded in all, and for each function to half of that, so that one cannot take all the room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

T = TypeVar("T")

_GUESS_S = 0.001
_NEWEST = 0.25


class _Share(Generic[T]):
    __slots__ = ("guess_s", "time_s", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[T] = deque()
        self.time_s, self.guess_s = 0.0, _GUESS_S


class FairQueue(Generic[T]):
    """Items of at most ``functions_max`` functions; of those that wait for nothing the oldest is forgotten."""

    def __init__(self, items_max: int, functions_max: int = 1024) -> None:
        self._items_max, self._functions_max = items_max, functions_max
        self._one_max = max(1, (items_max + 1) // 2)
        self._shares: dict[str, _Share[T]] = {}
        self._count = 0
        self._now_s = 0.0  # the virtual time of whoever went last

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    def push(self, function: str, item: T) -> bool:
        """Whether there was room for it."""
        share = self._shares.get(function)
        if self._count >= self._items_max or (share is not None and len(share.waiting) >= self._one_max):
            return False
        if share is None:
            self._make_room()
            share = self._shares[function] = _Share()
        if not share.waiting:
            share.time_s = max(share.time_s, self._now_s)
        share.waiting.append(item)
        self._count += 1
        return True

    def pop(self, but: Collection[str] = ()) -> tuple[str, T, float] | None:
        """The function, its item, and what it was charged (seconds), for ``settle``; None: nobody waits, or only
        functions that it is not to be.
        """
        name = min(
            (one for one, share in self._shares.items() if share.waiting and one not in but),
            key=lambda one: self._shares[one].time_s,
            default=None,
        )
        if name is None:
            return None
        share = self._shares[name]
        self._count -= 1
        self._now_s = share.time_s
        share.time_s += share.guess_s
        return name, share.waiting.popleft(), share.guess_s

    def settle(self, function: str, charged_s: float, took_s: float) -> None:
        """A call that ``pop`` gave has ended, and took so long of the GPU."""
        share = self._shares.get(function)
        if share is not None:
            share.time_s += took_s - charged_s
            share.guess_s += _NEWEST * (took_s - share.guess_s)

    def remove(self, function: str, item: T) -> bool:
        """Take one back that waits; whether it was there."""
        share = self._shares.get(function)
        if share is None or item not in share.waiting:
            return False
        share.waiting.remove(item)
        self._count -= 1
        return True

    def clear(self) -> list[T]:
        """All that wait; they wait no longer."""
        left = [item for share in self._shares.values() for item in share.waiting]
        for share in self._shares.values():
            share.waiting.clear()
        self._count = 0
        return left

    def _make_room(self) -> None:
        if len(self._shares) >= self._functions_max:
            idle = next((one for one, share in self._shares.items() if not share.waiting), None)
            if idle is not None:  # else there are no more functions than items
                del self._shares[idle]
