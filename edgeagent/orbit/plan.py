"""A contact plan: who is in contact with whom, from when to when. Immutable; :mod:`planner` makes and extends it.

Times are UTC seconds since 1970. A window holds from its start up to, not including, its end. Pairs have no order.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Mapping

import msgspec

from edgeagent.orbit.errors import NodeUnknown, OutsidePlan

__all__ = ["ContactPlan", "Pair", "Window", "pair_of"]

Pair = tuple[str, str]


def pair_of(a: str, b: str) -> Pair:
    """The pair as plans name it: the smaller id first."""
    return (a, b) if a <= b else (b, a)


class Window(msgspec.Struct, frozen=True, order=True):
    """One contact. ``cut_start``, ``cut_end``: it reaches over what was computed, so the true edge lies further out."""

    start_s: float
    end_s: float
    a: str
    b: str
    cut_start: bool = False
    cut_end: bool = False

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


class ContactPlan:
    """The contacts of some pairs from ``start_s`` to ``end_s``.

    Pairs of two ground nodes are known and never in contact: their links are not a matter of orbits.
    """

    def __init__(
        self,
        *,
        start_s: float,
        end_s: float,
        nodes: frozenset[str],
        ground: frozenset[str],
        contacts: Mapping[Pair, tuple[Window, ...]],
    ) -> None:
        """``contacts`` has an entry for each watched pair, its windows in order and apart from each other."""
        self.start_s = start_s
        self.end_s = end_s
        self.nodes = nodes
        self._ground = ground
        self._contacts = contacts
        self._starts = {pair: [window.start_s for window in found] for pair, found in contacts.items()}

    @functools.cached_property
    def windows(self) -> tuple[Window, ...]:
        """All windows by start."""
        return tuple(sorted(window for found in self._contacts.values() for window in found))

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The watched pairs."""
        return tuple(self._contacts)

    def windows_of(self, a: str, b: str) -> tuple[Window, ...]:
        """The windows of a pair by start. Raises NodeUnknown."""
        pair = pair_of(a, b)
        found = self._contacts.get(pair)
        if found is not None:
            return found
        for one in pair:
            if one not in self.nodes:
                raise NodeUnknown(f"the contact plan has no node {one!r:.80}", hint="add it to the planner")
        if a != b and self._ground.issuperset(pair):
            return ()
        raise NodeUnknown(f"the contact plan does not watch {a!r:.80} and {b!r:.80}", hint="add the pair")

    def _position(self, a: str, b: str, utc_s: float) -> tuple[tuple[Window, ...], int]:
        """(the pair's windows, how many of them begin at this moment or before)."""
        found = self.windows_of(a, b)
        if not self.start_s <= utc_s <= self.end_s:
            raise OutsidePlan(
                f"the contact plan goes from {self.start_s:.0f} to {self.end_s:.0f}, not to {utc_s!r}",
                hint="advance the planner to this time",
            )
        return found, bisect_right(self._starts.get(pair_of(a, b), []), utc_s)

    def contact(self, a: str, b: str, utc_s: float) -> Window | None:
        """The window that holds now. Raises NodeUnknown and OutsidePlan, as all questions do."""
        found, begun = self._position(a, b, utc_s)
        if begun and utc_s < found[begun - 1].end_s:
            return found[begun - 1]
        return None

    def in_contact(self, a: str, b: str, utc_s: float) -> bool:
        """Whether the pair is in contact at this moment."""
        return self.contact(a, b, utc_s) is not None

    def next_contact(self, a: str, b: str, utc_s: float) -> Window | None:
        """The contact that holds at this moment or else the first one after it; None if the plan has none."""
        found, begun = self._position(a, b, utc_s)
        if begun and utc_s < found[begun - 1].end_s:
            return found[begun - 1]
        return found[begun] if begun < len(found) else None

    def ends(self, a: str, b: str, utc_s: float) -> float | None:
        """When the contact that holds now ends, None if there is none; at the plan's end it may well go on."""
        holds = self.contact(a, b, utc_s)
        return None if holds is None else holds.end_s

    def in_contact_with(self, node: str, utc_s: float) -> tuple[str, ...]:
        """The ids of those that a node is in contact with, sorted."""
        if node not in self.nodes:
            raise NodeUnknown(f"the contact plan has no node {node!r:.80}", hint="add it to the planner")
        return tuple(other for other in self._fellows.get(node, ()) if self.in_contact(node, other, utc_s))

    @functools.cached_property
    def _fellows(self) -> dict[str, list[str]]:
        """For each node the others that it is watched with, sorted."""
        fellows: dict[str, list[str]] = {}
        for a, b in self._contacts:
            fellows.setdefault(a, []).append(b)
            fellows.setdefault(b, []).append(a)
        return {node: sorted(others) for node, others in fellows.items()}
