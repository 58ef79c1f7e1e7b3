"""The element sets that a node knows, one for each object, the newest counting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgeagent.orbit.age import DEFAULT_POLICY, AgePolicy, Freshness
from edgeagent.orbit.elements import Elements, newest
from edgeagent.orbit.errors import NodeUnknown
from edgeagent.orbit.propagation import Ensemble, Gravity

__all__ = ["Catalogue"]


class Catalogue:
    """Objects by :attr:`Elements.key`, in a fixed order; ``superseded`` are sets of which a newer one was there.

    Immutable: :meth:`updated` makes another.
    """

    def __init__(
        self,
        elements: Iterable[Elements],
        *,
        gravity: Gravity = "wgs72",
        policy: AgePolicy | None = DEFAULT_POLICY,
    ) -> None:
        kept, replaced = newest(list(elements))
        self.elements: tuple[Elements, ...] = tuple(kept)
        self.superseded: tuple[Elements, ...] = tuple(replaced)
        self.ensemble = Ensemble(self.elements, gravity=gravity, policy=policy)
        self._gravity: Gravity = gravity
        self._policy = policy
        self._index = {one.key: index for index, one in enumerate(self.elements)}

    def __len__(self) -> int:
        return len(self.elements)

    def __iter__(self) -> Iterator[Elements]:
        return iter(self.elements)

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def index(self, key: str) -> int:
        """The row of an object in the ensemble's arrays. Raises NodeUnknown."""
        try:
            return self._index[key]
        except KeyError:
            raise NodeUnknown(f"no elements of {key!r:.60}", hint="import its element set") from None

    def get(self, key: str) -> Elements:
        """The element set of an object. Raises NodeUnknown."""
        return self.elements[self.index(key)]

    def by_norad_id(self, norad_id: int) -> Elements:
        """The element set of a catalogue number. Raises NodeUnknown."""
        return self.get(f"norad:{norad_id}")

    def notes(self, utc_s: float) -> list[str]:
        """One line for every object whose elements are aged or stale at a moment."""
        policy = self._policy or DEFAULT_POLICY
        return [
            policy.note(one, utc_s)
            for one in self.elements
            if policy.verdict(one, utc_s) is not Freshness.FRESH
        ]

    def updated(self, elements: Iterable[Elements]) -> Catalogue:
        """A catalogue with these sets, too; of each object the newest counts."""
        return Catalogue([*self.elements, *elements], gravity=self._gravity, policy=self._policy)
