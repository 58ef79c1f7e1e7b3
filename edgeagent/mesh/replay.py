"""The replay window: which counters of one sender have been seen (RFC 4303 section 3.4.3, over one whole number)."""

from __future__ import annotations

__all__ = ["WINDOW", "ReplayWindow"]

WINDOW = 1024


class ReplayWindow:
    """Accepts each counter once; those that are ``WINDOW`` or more behind the highest count as seen."""

    __slots__ = ("_highest", "_seen")

    def __init__(self) -> None:
        self._highest = -1
        self._seen = 0  # bit n: the counter that is n below the highest

    def is_new(self, counter: int) -> bool:
        """Whether the counter may be accepted; says nothing of who sent it."""
        behind = self._highest - counter
        return behind < 0 or (behind < WINDOW and not self._seen >> behind & 1)

    def take(self, counter: int) -> None:
        """The packet was genuine: its counter is used up."""
        ahead = counter - self._highest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self._highest = counter
        else:
            self._seen |= 1 << -ahead
