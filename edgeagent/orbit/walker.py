"""Walker constellations, i: t/p/f: evenly spread planes of evenly spaced satellites (Walker, JBIS 37, 1984).

Plane j of p has its node at ``spread * j / p`` and satellite k of s = t / p in it stands at ``360 k / s + 360 f j /
t`` degrees past the node. The spread is 360 degrees for a delta (inclined shells as Starlink's) and 180 for a star
(polar shells as Iridium's).
"""

from __future__ import annotations

from typing import Literal

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import GeometryRefused
from edgeagent.orbit.kepler import kepler_elements

__all__ = ["walker"]


def walker(  # noqa: PLR0913 - a shell is told by so many numbers
    *,
    total: int,
    planes: int,
    phasing: int,
    inclination_deg: float,
    altitude_km: float,
    epoch_us: int,
    kind: Literal["delta", "star"] = "delta",
    first_norad_id: int = 900_000_001,
    prefix: str = "W",
) -> list[Elements]:
    """The element sets of a shell, plane by plane; number ``plane * total / planes + slot``, named ``W-plane-slot``.

    Catalogue numbers count from ``first_norad_id``, which no real object has. Raises GeometryRefused unless
    ``planes`` divides ``total`` and ``phasing`` is in 0..planes-1.
    """
    if not 1 <= planes <= total <= 1_000_000 or total % planes:
        raise GeometryRefused(
            f"{total} satellites cannot stand in {planes} equal planes", hint="let planes divide total"
        )
    if not 0 <= phasing < planes:
        raise GeometryRefused(f"the phasing is {phasing}, not from 0 to {planes - 1}", hint="0 is no phasing")
    if kind not in {"delta", "star"}:
        raise GeometryRefused(f"{kind!r} is no kind of constellation", hint="use delta or star")
    slots = total // planes
    spread = 360.0 if kind == "delta" else 180.0
    return [
        kepler_elements(
            epoch_us=epoch_us,
            altitude_km=altitude_km,
            inclination_deg=inclination_deg,
            raan_deg=spread * plane / planes,
            mean_anomaly_deg=360.0 * slot / slots + 360.0 * phasing * plane / total,
            norad_id=first_norad_id + plane * slots + slot,
            name=f"{prefix}-{plane}-{slot}",
            source="walker",
        )
        for plane in range(planes)
        for slot in range(slots)
    ]
