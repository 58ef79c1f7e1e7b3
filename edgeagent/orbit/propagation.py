"""SGP4 over many satellites and times at once, with a mask in place of exceptions, and over one with typed errors.

The propagator is the sgp4 package (Vallado's code, AIAA 2006-6753), WGS-72, improved mode. What it does not do itself
is added here: catalogue numbers stay outside its records; a radius guard, since for old elements it returns positions
inside the Earth or 8e11 km away with error code 0; and the age policy.

Error codes per satellite and time:

| code | meaning |
|---|---|
| 0 | good |
| 1 | mean eccentricity outside 0..1 |
| 2 | mean motion not above 0 |
| 3 | perturbed eccentricity outside 0..1 |
| 4 | semi-latus rectum below 0 |
| 5 | epoch elements are sub-orbital (no longer used by SGP4) |
| 6 | decayed: below one Earth radius |
| 7 | radius guard: below 6,478 km, or above 60,000 km and 1.2 times the apogee |
| 8 | elements stale by the age policy |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sgp4.api import WGS72, WGS84, Satrec, SatrecArray

from edgeagent.orbit.age import DEFAULT_POLICY, AgePolicy
from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import PropagationFailed
from edgeagent.orbit.frames import ecef_velocity, teme_to_ecef
from edgeagent.orbit.instants import DAY_S, julian_of_us
from edgeagent.orbit.sidereal import as_times, julian, sidereal_angle

__all__ = [
    "ERRORS",
    "RADIUS_MIN_KM",
    "Ensemble",
    "Gravity",
    "States",
    "propagate_one",
    "satrec_of",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.uint8]
Gravity = Literal["wgs72", "wgs84"]

RADIUS_MIN_KM = 6478.0
_RADIUS_MAX_KM = 60_000.0
_GUARD, _STALE = 7, 8
ERRORS = {
    1: "the mean eccentricity left 0..1",
    2: "the mean motion is not above 0",
    3: "the perturbed eccentricity left 0..1",
    4: "the semi-latus rectum is negative",
    5: "the elements are sub-orbital",
    6: "the satellite has decayed",
    7: "the radius cannot be that of this orbit",
    8: "the elements are stale",
}
_GRAVITY = {"wgs72": WGS72, "wgs84": WGS84}
_SGP4_EPOCH_JD = 2_433_281.5  # 1949-12-31T00:00Z
_PER_DAY = 1440.0 / (2.0 * math.pi)  # turns a day in one radian a minute
_MU_KM3_S2 = 398_600.8


def satrec_of(elements: Elements, gravity: Gravity = "wgs72") -> Satrec:
    """The sgp4 package's record of an element set, the same to the bit as ``Satrec.twoline2rv`` makes of a TLE.

    Its catalogue number is 0: five characters cannot hold ours.
    """
    day, fraction = julian_of_us(elements.epoch_us)
    radians = math.pi / 180.0
    record = Satrec()
    record.sgp4init(
        _GRAVITY[gravity],
        "i",
        0,
        (day + fraction) - _SGP4_EPOCH_JD,
        elements.bstar_per_er,
        elements.mean_motion_dot_rev_day2 / (_PER_DAY * 1440.0),
        elements.mean_motion_ddot_rev_day3 / (_PER_DAY * 1440.0 * 1440),
        elements.eccentricity,
        elements.arg_perigee_deg * radians,
        elements.inclination_deg * radians,
        elements.mean_anomaly_deg * radians,
        elements.mean_motion_rev_day / _PER_DAY,
        elements.raan_deg * radians,
    )
    # sgp4init has had to split a single double: give it back the digits below 0.3 us.
    record.jdsatepoch, record.jdsatepochF = day, fraction
    return record


def _apogee_km(elements: Elements) -> float:
    axis = (_MU_KM3_S2 / (elements.mean_motion_rev_day * 2 * math.pi / DAY_S) ** 2) ** (1 / 3)
    return float(axis * (1.0 + elements.eccentricity))


@dataclass(frozen=True)
class States:
    """Positions and velocities ``(N, T, 3)`` in km and km/s, NaN where ``error`` ``(N, T)`` is not 0."""

    utc_s: Floats
    position_km: Floats
    velocity_km_s: Floats
    error: Codes

    @property
    def good(self) -> NDArray[np.bool_]:
        return np.asarray(self.error == 0)

    def in_ecef(self, *, dut1_s: float | None = None) -> States:
        """TEME states in the turning Earth's frame, velocities as seen from it."""
        angle = sidereal_angle(self.utc_s, dut1_s=dut1_s)
        position = teme_to_ecef(self.position_km, angle)
        velocity = ecef_velocity(self.velocity_km_s, position, angle)
        return States(self.utc_s, position, velocity, self.error)


class Ensemble:
    """Many element sets, propagated together. Order is that of ``elements``; repeats are the caller's affair."""

    def __init__(
        self,
        elements: Sequence[Elements],
        *,
        gravity: Gravity = "wgs72",
        policy: AgePolicy | None = DEFAULT_POLICY,
    ) -> None:
        """``policy=None`` computes with elements of any age, which is for simulations."""
        self.elements = tuple(elements)
        self._records = SatrecArray([satrec_of(one, gravity) for one in self.elements])
        self._radius_max = np.array([max(_RADIUS_MAX_KM, 1.2 * _apogee_km(one)) for one in self.elements])
        self._epoch_s = np.array([one.epoch_s for one in self.elements])
        self._limit_s = np.array(
            [policy.limits_of(one).refuse_d * DAY_S if policy else math.inf for one in self.elements]
        )

    def __len__(self) -> int:
        return len(self.elements)

    def ages_s(self, utc_s: float) -> Floats:
        """Age of each element set ``(N,)``, negative before its epoch."""
        return np.asarray(utc_s - self._epoch_s)

    def propagate(self, utc_s: ArrayLike) -> States:
        """States in TEME. Raises TimeRefused; what a satellite does wrong is told by ``States.error``."""
        times = as_times(utc_s)
        shape = (len(self), len(times))
        if not all(shape):
            empty = np.empty((*shape, 3))
            return States(times, empty, empty.copy(), np.zeros(shape, np.uint8))
        codes, position, velocity = self._records.sgp4(*julian(times))
        radius2 = (position**2).sum(axis=-1)
        # Written so that a NaN radius counts as outside.
        inside = (radius2 >= RADIUS_MIN_KM**2) & (radius2 <= self._radius_max[:, np.newaxis] ** 2)
        codes[(codes == 0) & ~inside] = _GUARD
        codes[np.abs(times - self._epoch_s[:, np.newaxis]) > self._limit_s[:, np.newaxis]] = _STALE
        position[codes != 0] = np.nan
        velocity[codes != 0] = np.nan
        return States(times, position, velocity, codes)

    def positions_teme_km(self, utc_s: ArrayLike) -> tuple[Floats, Codes]:
        """(positions ``(N, T, 3)`` in TEME, error codes ``(N, T)``)."""
        states = self.propagate(utc_s)
        return states.position_km, states.error

    def positions_ecef_km(self, utc_s: ArrayLike, *, dut1_s: float | None = None) -> tuple[Floats, Codes]:
        """(positions ``(N, T, 3)`` in ECEF, error codes ``(N, T)``)."""
        states = self.propagate(utc_s)
        return teme_to_ecef(states.position_km, sidereal_angle(states.utc_s, dut1_s=dut1_s)), states.error


def propagate_one(
    elements: Elements,
    utc_s: float,
    *,
    gravity: Gravity = "wgs72",
    policy: AgePolicy | None = DEFAULT_POLICY,
) -> tuple[Floats, Floats]:
    """(position in km, velocity in km/s) of one satellite at one moment, TEME.

    Raises ElementsStale past the policy's limit, PropagationFailed (``details["code"]``) for SGP4's errors and the
    radius guard, TimeRefused for a time that is none.
    """
    moment = float(as_times(utc_s)[0])
    if policy is not None:
        policy.check(elements, moment)
    states = Ensemble([elements], gravity=gravity, policy=None).propagate(moment)
    code = int(states.error[0, 0])
    if code:
        raise PropagationFailed(
            f"{elements.label} has no position at this time: {ERRORS[code]} (code {code})",
            hint="fetch newer elements; a satellite that has decayed has none",
            code=code,
        )
    return states.position_km[0, 0], states.velocity_km_s[0, 0]
