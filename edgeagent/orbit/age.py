"""How old an element set may be: told always, warned about past one limit, refused past another.

SGP4 itself is good to about 1 km at the epoch; from there the error grows, mostly along the track, by about 1 to 3 km
a day in low orbits and with the square of the time where drag is strong (Vallado, Fundamentals of Astrodynamics and
Applications, 9.2 and 9.9; Vallado & Cefola, Two-line element sets - practice and use, IAC-12-A6.6.11; Levit &
Marshall, Improved orbit predictions using two-line elements, Adv. Space Res. 47, 2011; Kelso, Validation of SGP4 and
IS-GPS-200D against GPS precision ephemerides, AAS 07-127). 7.5 km along the track shift a contact by 1 s, so that the
limits below stand for about a second (warn) and for several seconds to a minute (refuse). They are choices made from
those rates, not constants of nature: a satellite that manoeuvres is wrong sooner.

Time before the epoch counts alike: elements published for a later moment are as uncertain.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping

import msgspec

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import ElementsStale

__all__ = ["DEFAULT_POLICY", "AgeLimits", "AgePolicy", "Freshness", "Regime", "age_s", "regime_of"]

_MU_KM3_S2 = 398_600.8  # WGS-72, the constants of SGP4
_EARTH_KM = 6378.135


class Regime(enum.StrEnum):
    """Kinds of orbits whose predictions age alike."""

    DRAG = "drag"  # perigee below 450 km
    LEO = "leo"  # at least 11.25 turns a day (period up to 128 minutes)
    HEO = "heo"  # eccentricity of 0.25 or more
    MEO = "meo"
    GEO = "geo"  # 0.9 to 1.1 turns a day


class Freshness(enum.StrEnum):
    """The verdict on an element set at a moment."""

    FRESH = "fresh"
    AGED = "aged"
    STALE = "stale"


class AgeLimits(msgspec.Struct, frozen=True):
    """Days from which an element set is warned about, and refused."""

    warn_d: float
    refuse_d: float


_LIMITS: Mapping[Regime, AgeLimits] = {
    Regime.DRAG: AgeLimits(1.5, 7.0),
    Regime.LEO: AgeLimits(3.0, 14.0),
    Regime.HEO: AgeLimits(5.0, 21.0),
    Regime.MEO: AgeLimits(7.0, 30.0),
    Regime.GEO: AgeLimits(7.0, 30.0),
}


def regime_of(elements: Elements) -> Regime:
    """The regime, from mean motion and eccentricity; the semi-major axis is Kepler's, good to 0.2 % here."""
    turns = elements.mean_motion_rev_day
    axis_km = (_MU_KM3_S2 / (turns * 2 * math.pi / 86_400) ** 2) ** (1 / 3)
    if axis_km * (1 - elements.eccentricity) - _EARTH_KM < 450.0:
        return Regime.DRAG
    if elements.eccentricity >= 0.25:
        return Regime.HEO
    if turns >= 11.25:
        return Regime.LEO
    return Regime.GEO if 0.9 <= turns <= 1.1 else Regime.MEO


def age_s(elements: Elements, utc_s: float) -> float:
    """Seconds from the epoch to a moment; negative before the epoch."""
    return utc_s - elements.epoch_s


class AgePolicy(msgspec.Struct, frozen=True):
    """Limits for each regime; a regime that is not named has the default limits."""

    limits: Mapping[Regime, AgeLimits] = msgspec.field(default_factory=dict)

    def limits_of(self, elements: Elements) -> AgeLimits:
        regime = regime_of(elements)
        return self.limits.get(regime, _LIMITS[regime])

    def verdict(self, elements: Elements, utc_s: float) -> Freshness:
        limits = self.limits_of(elements)
        days = abs(age_s(elements, utc_s)) / 86_400
        if days > limits.refuse_d:
            return Freshness.STALE
        return Freshness.AGED if days > limits.warn_d else Freshness.FRESH

    def note(self, elements: Elements, utc_s: float) -> str:
        """One line for people: the age, and the limits that apply."""
        limits = self.limits_of(elements)
        days = age_s(elements, utc_s) / 86_400
        ago = f"{days:.1f} days old" if days >= 0 else f"{-days:.1f} days ahead"
        return (
            f"elements of {elements.label} are {ago} "
            f"({regime_of(elements)}: warned from {limits.warn_d:g}, refused from {limits.refuse_d:g} days)"
        )

    def check(self, elements: Elements, utc_s: float) -> Freshness:
        """The verdict, FRESH or AGED. Raises ElementsStale past the limit."""
        verdict = self.verdict(elements, utc_s)
        if verdict is Freshness.STALE:
            raise ElementsStale(
                self.note(elements, utc_s),
                hint="fetch newer elements of this satellite",
                age_s=age_s(elements, utc_s),
                limit_s=self.limits_of(elements).refuse_d * 86_400,
            )
        return verdict


DEFAULT_POLICY = AgePolicy()
