"""What has a position: satellites and ground nodes, under one interface.

A ground node stands still on the ellipsoid and says from which elevation on it sees: one mask for all directions, a
horizon by azimuth (mountains, buildings), or both, of which the higher counts.
"""

from __future__ import annotations

import functools
import math
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeagent.orbit.age import DEFAULT_POLICY, AgePolicy
from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import GeometryRefused
from edgeagent.orbit.geodetic import ecef_of
from edgeagent.orbit.look import Look, look_at
from edgeagent.orbit.propagation import Ensemble
from edgeagent.orbit.sidereal import as_times

__all__ = ["GroundNode", "Located", "Node", "Satellite"]

Floats = NDArray[np.float64]


@runtime_checkable
class Located(Protocol):
    """A node with a position at any time."""

    @property
    def id(self) -> str: ...

    def positions_km(self, utc_s: ArrayLike) -> Floats:
        """ECEF positions ``(T, 3)``, km; NaN where there is none (decayed, stale)."""
        ...


class Satellite:
    """A node in orbit; ``range_km_max`` is how far its links to other satellites reach (default: as far as it sees)."""

    def __init__(
        self,
        id: str,  # noqa: A002 - the name of the interface
        elements: Elements,
        *,
        range_km_max: float = math.inf,
        policy: AgePolicy | None = DEFAULT_POLICY,
    ) -> None:
        if not range_km_max > 0.0:
            raise GeometryRefused(
                f"satellite {id!r:.60} reaches {range_km_max} km", hint="give a positive range"
            )
        self.id = id
        self.elements = elements
        self.range_km_max = range_km_max
        self.policy = policy

    @functools.cached_property
    def _ensemble(self) -> Ensemble:
        return Ensemble([self.elements], policy=self.policy)

    def positions_km(self, utc_s: ArrayLike) -> Floats:
        positions, _ = self._ensemble.positions_ecef_km(utc_s)
        return np.asarray(positions[0])


class GroundNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node on the ground. Construction raises GeometryRefused for places and masks that cannot be.

    ``horizon`` is a tuple of (azimuth, elevation) in degrees, read linearly and closed over north; ``range_km_max``
    bounds the slant range to satellites.
    """

    id: str
    latitude_deg: float
    longitude_deg: float
    height_m: float = 0.0
    mask_deg: float = 0.0
    horizon: tuple[tuple[float, float], ...] = ()
    range_km_max: float = math.inf

    def __post_init__(self) -> None:
        checks = (
            ("latitude_deg", self.latitude_deg, -90.0, 90.0),
            ("longitude_deg", self.longitude_deg, -360.0, 360.0),
            ("height_m", self.height_m, -12_000.0, 100_000.0),
            ("mask_deg", self.mask_deg, -10.0, 90.0),  # lower is through the Earth
            *(("horizon azimuth", azimuth, 0.0, 360.0) for azimuth, _ in self.horizon),
            *(("horizon elevation", elevation, -10.0, 90.0) for _, elevation in self.horizon),
        )
        for name, value, low, high in checks:
            if not low <= value <= high:
                raise GeometryRefused(
                    f"{name} of {self.id!r:.60} is {value!r}, not from {low:g} to {high:g}", hint="correct it"
                )
        if not self.range_km_max > 0.0:
            raise GeometryRefused(
                f"{self.id!r:.60} reaches {self.range_km_max} km", hint="give a positive range"
            )

    @property
    def position_km(self) -> Floats:
        """ECEF position ``(3,)``, km."""
        return ecef_of(self.latitude_deg, self.longitude_deg, self.height_m / 1e3)

    def positions_km(self, utc_s: ArrayLike) -> Floats:
        return np.tile(self.position_km, (len(as_times(utc_s)), 1))

    def look(self, target_ecef_km: ArrayLike) -> Look:
        """Azimuth, elevation and slant range of ECEF positions ``(..., 3)``."""
        return look_at(self.latitude_deg, self.longitude_deg, self.height_m / 1e3, target_ecef_km)

    @property
    def mask_range_deg(self) -> tuple[float, float]:
        """The lowest and the highest mask of all directions."""
        heights = [elevation for _, elevation in self.horizon] or [self.mask_deg]
        return max(self.mask_deg, min(heights)), max(self.mask_deg, *heights)

    def mask_at(self, azimuth_deg: ArrayLike) -> Floats:
        """The mask in some directions, degrees."""
        azimuth = np.asarray(azimuth_deg, dtype=np.float64)
        if not self.horizon:
            return np.full(azimuth.shape, self.mask_deg)
        known = sorted(self.horizon, key=lambda point: point[0])
        azimuths, elevations = [point[0] for point in known], [point[1] for point in known]
        # Closed over north by the last point before and the first one after.
        around = np.interp(
            azimuth,
            [azimuths[-1] - 360.0, *azimuths, azimuths[0] + 360.0],
            [elevations[-1], *elevations, elevations[0]],
        )
        return np.maximum(around, self.mask_deg)


Node: TypeAlias = GroundNode | Satellite
