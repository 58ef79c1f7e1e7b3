"""The contact plan as gossip asks it: may this member be judged now, and when will it be back?

Predictions are questions, not state: whoever drives the core hands in :class:`Contacts` (the daemon a plan computed
from everybody's elements, the simulator its own). Times are UTC seconds. Without a synchronised clock no question is
asked, and everybody counts as in contact.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["AlwaysInContact", "Contacts", "in_contact_around"]


class Contacts(Protocol):
    """What is predicted about two members, over any route. Unknown names are reachable: no plan excuses them. Neither
    method raises.
    """

    def reachable(self, a: str, b: str, at_s: float) -> bool:
        """Whether a route from ``a`` to ``b`` is predicted at this time."""
        ...

    def returns_at_s(self, a: str, b: str, at_s: float) -> float | None:
        """When a route is next predicted, from ``at_s`` on; None where none is in sight."""
        ...


class AlwaysInContact:
    """No plan: a terrestrial mesh."""

    def reachable(self, a: str, b: str, at_s: float) -> bool:
        return True

    def returns_at_s(self, a: str, b: str, at_s: float) -> float | None:
        return at_s


def in_contact_around(contacts: Contacts, a: str, b: str, at_s: float, margin_s: float) -> bool:
    """Whether the contact holds now, and does at both ends of the margin: plan and clock err at the edges."""
    return (
        contacts.reachable(a, b, at_s)
        and contacts.reachable(a, b, at_s - margin_s)
        and contacts.reachable(a, b, at_s + margin_s)
    )
