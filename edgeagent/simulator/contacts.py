"""Contacts of the virtual world: periodic windows for each pair, and the plan that members have of them.

The plan may be wrong at the edges by ``error_s``: the true windows are then shorter, as real ones are (masks, weather,
pointing). Windows shift from pair to pair by chance, so that the group is never in one piece and never apart for long.
"""

from __future__ import annotations

import math
import random

__all__ = ["FixedContacts", "PeriodicContacts"]


class PeriodicContacts:
    """A :class:`gossip.occlusion.Contacts` over names. Each pair is in contact for ``share`` of each ``period_s``, from
    its own phase on; pairs in ``always`` are never apart (satellites of one plane, sites on one network).
    """

    def __init__(
        self,
        names: list[str],
        chance: random.Random,
        *,
        period_s: float,
        share: float,
        always: frozenset[tuple[str, str]] = frozenset(),
        error_s: float = 0.0,
    ) -> None:
        self.period_s = period_s
        self.length_s = period_s * share
        self._always = always
        self._error_s = error_s
        self._phase_s = {
            (a, b): chance.random() * period_s for a in sorted(names) for b in sorted(names) if a < b
        }

    def reachable(self, a: str, b: str, at_s: float) -> bool:
        """By plan."""
        phase_s = self._phase(a, b)
        return phase_s is None or (at_s - phase_s) % self.period_s < self.length_s

    def returns_at_s(self, a: str, b: str, at_s: float) -> float | None:
        phase_s = self._phase(a, b)
        if phase_s is None or (at_s - phase_s) % self.period_s < self.length_s:
            return at_s
        return phase_s + math.ceil((at_s - phase_s) / self.period_s) * self.period_s

    def truly_visible(self, a: str, b: str, at_s: float) -> bool:
        """In truth."""
        phase_s = self._phase(a, b)
        if phase_s is None:
            return True
        return self._error_s <= (at_s - phase_s) % self.period_s < self.length_s - self._error_s

    def _phase(self, a: str, b: str) -> float | None:
        pair = (a, b) if a < b else (b, a)
        return None if a == b or pair in self._always else self._phase_s.get(pair)


class FixedContacts:
    """A plan that a test writes down: pairs and their windows, UTC seconds; every other pair is always in contact."""

    def __init__(self, windows: dict[tuple[str, str], list[tuple[float, float]]]) -> None:
        self._windows = {tuple(sorted(pair)): sorted(found) for pair, found in windows.items()}

    def put(self, a: str, b: str, windows: list[tuple[float, float]]) -> None:
        """Plan otherwise for a pair."""
        self._windows[tuple(sorted((a, b)))] = sorted(windows)

    def reachable(self, a: str, b: str, at_s: float) -> bool:
        windows = self._windows.get(tuple(sorted((a, b))))
        return windows is None or any(start <= at_s < end for start, end in windows)

    def returns_at_s(self, a: str, b: str, at_s: float) -> float | None:
        windows = self._windows.get(tuple(sorted((a, b))))
        if windows is None:
            return at_s
        return next((max(start, at_s) for start, end in windows if end > at_s), None)
