"""The fields of an Orbit Mean-Elements Message (CCSDS 502.0-B), whichever of its four forms they came in.

Each form gives a mapping from field name to text, number or nothing; here it becomes an element set, or a refusal
that names the field. What decides about the meaning is checked (theory SGP4, frame TEME, time UTC, centre Earth,
units); what is not known is passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from edgeagent.orbit.elements import NORAD_ID_MAX, Elements
from edgeagent.orbit.errors import ElementsRefused, TimeRefused
from edgeagent.orbit.instants import parse_utc

__all__ = ["INPUT_BYTES_MAX", "RECORDS_MAX", "Collector", "Fields", "check_unit", "from_fields", "omm_fields"]

INPUT_BYTES_MAX = 128 << 20  # all public objects as XML are about 60 MB
RECORDS_MAX = 500_000

Fields: TypeAlias = Mapping[str, object]

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eEdD][+-]?\d{1,4})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_ANGLES = {
    "RA_OF_ASC_NODE": "raan_deg",
    "ARG_OF_PERICENTER": "arg_perigee_deg",
    "MEAN_ANOMALY": "mean_anomaly_deg",
}
_UNITS = {
    "MEAN_MOTION": "rev/day",
    "INCLINATION": "deg",
    "RA_OF_ASC_NODE": "deg",
    "ARG_OF_PERICENTER": "deg",
    "MEAN_ANOMALY": "deg",
    "BSTAR": "1/er",
    "MEAN_MOTION_DOT": "rev/day**2",
    "MEAN_MOTION_DDOT": "rev/day**3",
}
# What must be so where it is said; a field that is absent has the value that the public catalogues mean.
_MEANINGS = {
    "CENTER_NAME": {"EARTH"},
    "REF_FRAME": {"TEME", "TEMEOFDATE", "TEMEOFEPOCH"},
    "TIME_SYSTEM": {"UTC"},
    "MEAN_ELEMENT_THEORY": {"SGP4", "SDP4", "SGP4/SDP4", "SGP/SGP4"},
}


def _refuse(field: str, value: object, problem: str, hint: str) -> ElementsRefused:
    return ElementsRefused(f"{field} is {value!r:.60}, {problem}", hint=hint, field=field)


def check_unit(field: str, unit: str) -> None:
    """Raises ElementsRefused when a unit is stated that is not the one of CCSDS 502.0-B."""
    wanted = _UNITS.get(field)
    if (
        wanted is not None
        and unit.strip().lower().replace("^", "**").replace("[", "").replace("]", "") != wanted
    ):
        raise _refuse(field, unit, f"the unit must be {wanted}", "convert the value")


def _text(fields: Fields, field: str) -> str:
    value = fields.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _refuse(field, value, "it must be text", "put it into quotes")
    return value.strip()


def _number(fields: Fields, field: str, default: float | None = None) -> float:
    value = fields.get(field)
    if value is None or (isinstance(value, str) and not value.strip()):
        if default is None:
            raise ElementsRefused(f"{field} is missing", hint=f"add {field}", field=field)
        return default
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value.strip().replace("D", "e").replace("d", "e"))
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise _refuse(field, value, "it must be a finite decimal number", "correct it")
    return float(value)


def _whole(fields: Fields, field: str, most: int) -> int | None:
    value = fields.get(field)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        value = int(value.strip())
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise _refuse(field, value, f"it must be a whole number from 0 to {most}", "correct it")
    return value


def _angle(fields: Fields, field: str) -> float:
    value = _number(fields, field)
    if not -360.0 <= value <= 360.0:
        raise _refuse(
            field, value, "it must be from -360 to 360 degrees", "give degrees, not radians or turns"
        )
    return value if value >= 0.0 else math.fmod(value, 360.0) + 360.0


def _check_meaning(fields: Fields) -> None:
    for field, known in _MEANINGS.items():
        value = _text(fields, field)
        if value and value.upper().replace(" ", "") not in known:
            raise _refuse(field, value, f"only {min(known)} is understood", "convert the elements first")
    if fields.get("MEAN_MOTION") is None and fields.get("SEMI_MAJOR_AXIS") is not None:
        raise ElementsRefused(
            "the set has SEMI_MAJOR_AXIS in place of MEAN_MOTION",
            hint="SGP4 elements are told by MEAN_MOTION (rev/day)",
            field="MEAN_MOTION",
        )


def from_fields(fields: Fields, *, source: str) -> Elements:
    """One element set of OMM fields; numbers may be text. Raises ElementsRefused, which names the field."""
    _check_meaning(fields)
    epoch = _text(fields, "EPOCH")
    if not epoch:
        raise ElementsRefused("EPOCH is missing", hint="add EPOCH", field="EPOCH")
    try:
        epoch_us = parse_utc(epoch)
    except TimeRefused as error:
        raise ElementsRefused(f"EPOCH: {error.message}", hint=error.hint, field="EPOCH") from None
    return Elements(
        epoch_us=epoch_us,
        mean_motion_rev_day=_number(fields, "MEAN_MOTION"),
        eccentricity=_number(fields, "ECCENTRICITY"),
        inclination_deg=_number(fields, "INCLINATION"),
        **{name: _angle(fields, field) for field, name in _ANGLES.items()},
        bstar_per_er=_number(fields, "BSTAR"),
        mean_motion_dot_rev_day2=_number(fields, "MEAN_MOTION_DOT", 0.0),
        mean_motion_ddot_rev_day3=_number(fields, "MEAN_MOTION_DDOT", 0.0),
        norad_id=_whole(fields, "NORAD_CAT_ID", NORAD_ID_MAX),
        object_id=_text(fields, "OBJECT_ID"),
        name=_text(fields, "OBJECT_NAME"),
        classification=_text(fields, "CLASSIFICATION_TYPE").upper() or "U",
        element_set=_whole(fields, "ELEMENT_SET_NO", 2**32 - 1) or 0,
        rev_at_epoch=_whole(fields, "REV_AT_EPOCH", 2**32 - 1) or 0,
        ephemeris_type=_whole(fields, "EPHEMERIS_TYPE", 9) or 0,
        source=source,
    )


def omm_fields(one: Elements) -> dict[str, str | float | int]:
    """The OMM fields of an element set, in the order of the standard; :func:`from_fields` reads them back unchanged."""
    identity: dict[str, str | float | int] = {"OBJECT_NAME": one.name, "OBJECT_ID": one.object_id}
    number: dict[str, str | float | int] = {} if one.norad_id is None else {"NORAD_CAT_ID": one.norad_id}
    return {
        **identity,
        "CENTER_NAME": "EARTH",
        "REF_FRAME": "TEME",
        "TIME_SYSTEM": "UTC",
        "MEAN_ELEMENT_THEORY": "SGP4",
        "EPOCH": one.epoch,
        "MEAN_MOTION": one.mean_motion_rev_day,
        "ECCENTRICITY": one.eccentricity,
        "INCLINATION": one.inclination_deg,
        "RA_OF_ASC_NODE": one.raan_deg,
        "ARG_OF_PERICENTER": one.arg_perigee_deg,
        "MEAN_ANOMALY": one.mean_anomaly_deg,
        "EPHEMERIS_TYPE": one.ephemeris_type,
        "CLASSIFICATION_TYPE": one.classification,
        **number,
        "ELEMENT_SET_NO": one.element_set,
        "REV_AT_EPOCH": one.rev_at_epoch,
        "BSTAR": one.bstar_per_er,
        "MEAN_MOTION_DOT": one.mean_motion_dot_rev_day2,
        "MEAN_MOTION_DDOT": one.mean_motion_ddot_rev_day3,
    }


class Collector:
    """What a parser found. A refused record raises, or is put on the list ``refused`` where the caller gives one."""

    def __init__(self, form: str, refused: list[ElementsRefused] | None) -> None:
        self.form = form
        self.elements: list[Elements] = []
        self._refused = refused
        self._records = 0

    def add(self, place: str, build: Callable[[], Elements], **where: int) -> None:
        """Build one record; ``place`` says where it stands, ``where`` is the same as ``details``."""
        self._records += 1
        if self._records > RECORDS_MAX:
            raise ElementsRefused(f"{self.form}: more than {RECORDS_MAX} records", hint="split the input")
        try:
            self.elements.append(build())
        except ElementsRefused as error:
            told = error.at(f"{self.form}, {place}", format=self.form, **where)
            if self._refused is None:
                raise told from None
            self._refused.append(told)
