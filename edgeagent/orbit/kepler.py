"""Element sets that nobody measured: made of Keplerian elements, for constellations, simulations and tests.

SGP4 wants Kozai's mean motion; the axis that people mean is Brouwer's, from which SGP4 takes its own motion. The
relation is the one that SGP4 inverts when it starts (Hoots & Roehrich, Spacetrack Report #3, 1980, section 6), here
the other way round: a satellite made for 550 km flies at 550 km over the equator's radius, not 4 km beside it.
"""

from __future__ import annotations

import math

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import GeometryRefused

__all__ = ["EARTH_RADIUS_KM", "kepler_elements", "kozai_mean_motion", "mean_anomaly_of_true"]

# WGS-72 as SGP4 uses it.
EARTH_RADIUS_KM = 6378.135
_MU_KM3_S2 = 398_600.8
_J2 = 0.001_082_616
_XKE = 60.0 / math.sqrt(EARTH_RADIUS_KM**3 / _MU_KM3_S2)  # earth radii^1.5 a minute


def kozai_mean_motion(semi_major_axis_km: float, eccentricity: float, inclination_deg: float) -> float:
    """The mean motion, turns a day, that makes SGP4 fly with this (Brouwer mean) semi-major axis.

    Raises GeometryRefused for an axis below the Earth's radius or an eccentricity outside 0..1.
    """
    if not EARTH_RADIUS_KM <= semi_major_axis_km < 1e6 or not 0.0 <= eccentricity < 1.0:
        raise GeometryRefused(
            f"no orbit has a semi-major axis of {semi_major_axis_km!r} km and an eccentricity of {eccentricity!r}",
            hint="the axis counts from the Earth's centre; the eccentricity is from 0 to below 1",
        )
    axis = semi_major_axis_km / EARTH_RADIUS_KM
    brouwer = _XKE / axis**1.5
    flat = 1.0 - eccentricity**2
    d1 = 0.75 * _J2 * (3.0 * math.cos(math.radians(inclination_deg)) ** 2 - 1.0) / (math.sqrt(flat) * flat)
    kozai = brouwer
    for _ in range(20):  # converges by a factor of J2 each time
        ak = (_XKE / kozai) ** (2 / 3)
        delta = d1 / ak**2
        adelta = ak * (1.0 - delta * delta - delta * (1 / 3 + 134.0 * delta * delta / 81.0))
        kozai = brouwer * (1.0 + d1 / adelta**2)
    return float(kozai * 1440.0 / (2 * math.pi))


def mean_anomaly_of_true(true_anomaly_deg: float, eccentricity: float) -> float:
    """Mean anomaly in 0..360 degrees of a true anomaly, by Kepler's equation."""
    half = math.radians(true_anomaly_deg) / 2
    eccentric = 2 * math.atan2(
        math.sqrt(1 - eccentricity) * math.sin(half), math.sqrt(1 + eccentricity) * math.cos(half)
    )
    return math.degrees(eccentric - eccentricity * math.sin(eccentric)) % 360.0


def kepler_elements(  # noqa: PLR0913 - an orbit has six elements
    *,
    epoch_us: int,
    semi_major_axis_km: float | None = None,
    altitude_km: float | None = None,
    eccentricity: float = 0.0,
    inclination_deg: float = 0.0,
    raan_deg: float = 0.0,
    arg_perigee_deg: float = 0.0,
    mean_anomaly_deg: float = 0.0,
    bstar_per_er: float = 0.0,
    norad_id: int | None = None,
    name: str = "",
    source: str = "kepler",
) -> Elements:
    """A synthetic element set; mean elements of SGP4, angles in degrees of any size.

    ``altitude_km`` is over the equator's radius of 6378.135 km; give it or the semi-major axis. Without drag unless
    ``bstar_per_er`` says otherwise. Raises GeometryRefused, and ElementsRefused for values that no element set has.
    """
    if (semi_major_axis_km is None) == (altitude_km is None):
        raise GeometryRefused(
            "a semi-major axis or an altitude is needed, and only one", hint="leave one of them out"
        )
    axis_km = semi_major_axis_km if semi_major_axis_km is not None else EARTH_RADIUS_KM + (altitude_km or 0.0)
    angles = (raan_deg, arg_perigee_deg, mean_anomaly_deg)
    if not all(math.isfinite(angle) for angle in (*angles, inclination_deg)):
        raise GeometryRefused("an angle of the orbit is not a finite number", hint="give degrees")
    raan, perigee, anomaly = (angle % 360.0 for angle in angles)
    return Elements(
        epoch_us=epoch_us,
        mean_motion_rev_day=kozai_mean_motion(axis_km, eccentricity, inclination_deg),
        eccentricity=eccentricity,
        inclination_deg=inclination_deg,
        raan_deg=raan,
        arg_perigee_deg=perigee,
        mean_anomaly_deg=anomaly,
        bstar_per_er=bstar_per_er,
        norad_id=norad_id,
        name=name,
        source=source,
    )
