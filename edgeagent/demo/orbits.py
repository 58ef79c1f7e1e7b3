"""The demo's satellites: four in one plane, one behind the other, that rise over its edge nodes and set again.

Elements for the moment at which the emulation begins, so that satellite k passes over the region ``FIRST_S + k *
APART_S`` seconds of orbital time later (two-body geometry; a circular orbit is enough for a demo).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeagent.orbit.elements import Elements

__all__ = ["APART_S", "FIRST_S", "REGION", "SATELLITES", "omm_of", "train", "write_omm"]

REGION = (35.76, -78.69)  # latitude, longitude in degrees: where the scene is
SATELLITES = 4
FIRST_S, APART_S = 300.0, 180.0
_INCLINATION_DEG = 53.0
_ALTITUDE_KM = 550.0
_FIRST_NUMBER = 900_000_001  # no real object has such numbers


def train(since_s: float, region: tuple[float, float] = REGION) -> list[Elements]:
    """The element sets, in the order in which they rise; ``since_s`` is UTC."""
    from edgeagent.orbit.kepler import kepler_elements
    from edgeagent.orbit.sidereal import as_times, sidereal_angle

    inclination = math.radians(_INCLINATION_DEG)
    latitude, longitude = (math.radians(one) for one in region)
    argument = math.asin(math.sin(latitude) / math.sin(inclination))
    found = []
    for number in range(SATELLITES):
        over_s = FIRST_S + number * APART_S
        turned = float(sidereal_angle(as_times(since_s + FIRST_S))[0])  # one plane, that of the first pass
        node = longitude + turned - math.atan2(math.cos(inclination) * math.sin(argument), math.cos(argument))
        elements = kepler_elements(
            epoch_us=round(since_s * 1e6),
            altitude_km=_ALTITUDE_KM,
            inclination_deg=_INCLINATION_DEG,
            raan_deg=math.degrees(node),
            norad_id=_FIRST_NUMBER + number,
            name=f"EO-{number + 1}",
            source="demo",
        )
        turn_deg_s = elements.mean_motion_rev_day * 360.0 / 86_400.0
        anomaly = (math.degrees(argument) - turn_deg_s * over_s) % 360.0
        found.append(kepler_elements(
            epoch_us=round(since_s * 1e6),
            altitude_km=_ALTITUDE_KM,
            inclination_deg=_INCLINATION_DEG,
            raan_deg=math.degrees(node),
            mean_anomaly_deg=anomaly,
            norad_id=_FIRST_NUMBER + number,
            name=f"EO-{number + 1}",
            source="demo",
        ))  # fmt: skip
    return found


def omm_of(elements: Elements) -> dict[str, object]:
    """As a CCSDS OMM in JSON has it."""
    return {
        "OBJECT_NAME": elements.name,
        "OBJECT_ID": elements.object_id or "2026-001A",
        "EPOCH": elements.epoch,
        "MEAN_MOTION": elements.mean_motion_rev_day,
        "ECCENTRICITY": elements.eccentricity,
        "INCLINATION": elements.inclination_deg,
        "RA_OF_ASC_NODE": elements.raan_deg,
        "ARG_OF_PERICENTER": elements.arg_perigee_deg,
        "MEAN_ANOMALY": elements.mean_anomaly_deg,
        "EPHEMERIS_TYPE": 0,
        "CLASSIFICATION_TYPE": "U",
        "NORAD_CAT_ID": elements.norad_id,
        "ELEMENT_SET_NO": 1,
        "REV_AT_EPOCH": 1,
        "BSTAR": elements.bstar_per_er,
        "MEAN_MOTION_DOT": 0.0,
        "MEAN_MOTION_DDOT": 0.0,
    }


def write_omm(path: Path, elements: Sequence[Elements]) -> None:
    path.write_text(json.dumps([omm_of(one) for one in elements], indent=1) + "\n", "utf-8")
