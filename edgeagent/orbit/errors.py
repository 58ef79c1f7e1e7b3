"""What can go wrong with orbits; state is unchanged in every case.

EdgeError
└── OrbitFault 422             base
    ├── ElementsRefused        an element set, or the text around it, is malformed or impossible
    │   └── WireRefused        the compact form of an element set is damaged or of an unknown version
    ├── ElementsStale          older than the age policy allows (``age_s``, ``limit_s``)
    ├── PropagationFailed      SGP4 gave an error code, or a radius that cannot be (``code``)
    ├── TimeRefused 400        a time that is not a finite UTC second between 1957 and 2100, or not an ISO 8601 text
    ├── GeometryRefused 400    a latitude, mask, altitude or constellation that cannot be
    ├── NodeUnknown 404        the plan has no such node, or does not watch this pair
    └── OutsidePlan 409        the plan does not reach to this time; compute it further
"""

from __future__ import annotations

from typing import Any

from edgeagent.model.errors import EdgeError

__all__ = [
    "ElementsRefused",
    "ElementsStale",
    "GeometryRefused",
    "NodeUnknown",
    "OrbitFault",
    "OutsidePlan",
    "PropagationFailed",
    "TimeRefused",
    "WireRefused",
]


class OrbitFault(EdgeError):
    """Base of this room's errors."""

    slug, status = "orbit-failed", 422


class ElementsRefused(OrbitFault):
    """``details`` hold what is known of ``format``, ``record`` or ``line`` (both from 1) and ``field``."""

    slug = "elements-refused"

    def at(self, place: str, **details: Any) -> ElementsRefused:
        """The same refusal with the place in the text where it was found."""
        return type(self)(
            f"{place}: {self.message}", hint=self.hint, **{**details, **self.details}
        ).with_traceback(self.__traceback__)


class WireRefused(ElementsRefused):
    slug = "elements-wire-refused"


class ElementsStale(OrbitFault):
    slug = "elements-stale"


class PropagationFailed(OrbitFault):
    slug = "propagation-failed"


class TimeRefused(OrbitFault):
    slug, status = "time-refused", 400


class GeometryRefused(OrbitFault):
    slug, status = "geometry-refused", 400


class NodeUnknown(OrbitFault):
    slug, status = "orbit-node-unknown", 404


class OutsidePlan(OrbitFault):
    slug, status = "outside-contact-plan", 409
