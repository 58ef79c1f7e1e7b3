"""An element set: what SGP4 needs to know of one satellite, and who that satellite is.

The quantities are those of CCSDS OMM (502.0-B) and of TLE, in their units, unrounded: mean elements for SGP4 in the
TEME frame, UTC. The catalogue number (up to 9 digits) names the object here and never enters a Satrec, whose five
characters cannot hold it.
"""

from __future__ import annotations

import msgspec

from edgeagent.orbit.errors import ElementsRefused
from edgeagent.orbit.instants import EARLIEST_US, LATEST_US, format_utc

__all__ = ["NORAD_ID_MAX", "Elements", "newest"]

NORAD_ID_MAX = 999_999_999
_TEXT_BYTES_MAX = {"name": 128, "object_id": 32, "source": 128}
# (lowest, highest) that is let in. No orbit around the Earth turns more than 18 times a day.
_RANGES = {
    "mean_motion_rev_day": (1e-6, 20.0),
    "eccentricity": (0.0, 0.999_999_9),
    "inclination_deg": (0.0, 180.0),
    "raan_deg": (0.0, 360.0),
    "arg_perigee_deg": (0.0, 360.0),
    "mean_anomaly_deg": (0.0, 360.0),
    "bstar_per_er": (-1e3, 1e3),
    "mean_motion_dot_rev_day2": (-1e3, 1e3),
    "mean_motion_ddot_rev_day3": (-1e6, 1e6),
}
_COUNTS = {"element_set": 2**32 - 1, "rev_at_epoch": 2**32 - 1, "ephemeris_type": 9}


class Elements(msgspec.Struct, frozen=True, kw_only=True):
    """One element set. Construction and decoding raise ElementsRefused for values that cannot be.

    ``mean_motion_dot_rev_day2`` and ``..._ddot_rev_day3`` are, as in TLE and OMM, the first derivative divided by 2
    and the second divided by 6; SGP4 does not use them. ``object_id`` is the international designator
    (``1998-067A``), ``source`` says where the set came from and does not tell objects apart.
    """

    epoch_us: int
    mean_motion_rev_day: float
    eccentricity: float
    inclination_deg: float
    raan_deg: float
    arg_perigee_deg: float
    mean_anomaly_deg: float
    bstar_per_er: float = 0.0
    mean_motion_dot_rev_day2: float = 0.0
    mean_motion_ddot_rev_day3: float = 0.0
    norad_id: int | None = None
    object_id: str = ""
    name: str = ""
    classification: str = "U"
    element_set: int = 0
    rev_at_epoch: int = 0
    ephemeris_type: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check_identity(self)

    @property
    def key(self) -> str:
        """What tells this object from others: its catalogue number, else its designator, else its name."""
        if self.norad_id is not None:
            return f"norad:{self.norad_id}"
        return f"id:{self.object_id}" if self.object_id else f"name:{self.name}"

    @property
    def label(self) -> str:
        """For people: the name where there is one, and the key."""
        return f"{self.name} ({self.key})" if self.name else self.key

    @property
    def epoch_s(self) -> float:
        """The epoch as UTC seconds since 1970."""
        return self.epoch_us / 1e6

    @property
    def epoch(self) -> str:
        """The epoch as an OMM writes it."""
        return format_utc(self.epoch_us)


def _refuse(field: str, value: object, must: str) -> ElementsRefused:
    return ElementsRefused(f"{field} is {value!r:.60}, it must be {must}", hint="correct it", field=field)


def _check_numbers(elements: Elements) -> None:
    for field, (low, high) in _RANGES.items():
        value = getattr(elements, field)
        if not low <= value <= high:  # false for NaN, too
            raise _refuse(field, value, f"from {low:g} to {high:.10g}")
    for field, most in _COUNTS.items():
        if not 0 <= getattr(elements, field) <= most:
            raise _refuse(field, getattr(elements, field), f"from 0 to {most}")
    if not EARLIEST_US <= elements.epoch_us < LATEST_US:
        raise _refuse("epoch_us", elements.epoch_us, "in the years 1957 to 2099")
    if elements.ephemeris_type not in {0, 2, 3}:
        # 4 is SGP4-XP: it looks the same, and plain SGP4 gives wrong positions from it without a word.
        raise ElementsRefused(
            f"ephemeris_type is {elements.ephemeris_type}, which is not made for SGP4",
            hint="ask the provider for SGP4 elements (ephemeris type 0)",
            field="ephemeris_type",
        )


def _check_identity(elements: Elements) -> None:
    if elements.norad_id is not None and not 0 <= elements.norad_id <= NORAD_ID_MAX:
        raise _refuse("norad_id", elements.norad_id, f"from 0 to {NORAD_ID_MAX}, or absent")
    for field, most in _TEXT_BYTES_MAX.items():
        text = getattr(elements, field)
        if not text.isprintable() or len(text.encode()) > most:
            raise _refuse(field, text, f"printable text of at most {most} bytes")
    kind = elements.classification
    if len(kind) != 1 or not kind.isascii() or not kind.isalpha():
        raise _refuse("classification", kind, "one letter (U, C, S)")
    if not (elements.norad_id is not None or elements.object_id or elements.name):
        raise ElementsRefused(
            "the object has neither catalogue number nor designator nor name",
            hint="give one of NORAD_CAT_ID, OBJECT_ID and OBJECT_NAME",
            field="norad_id",
        )


def newest(elements: list[Elements]) -> tuple[list[Elements], list[Elements]]:
    """(one set an object, the sets they replace), keyed by :attr:`Elements.key`, in the order of first appearance.

    Of several sets of an object the one with the latest epoch counts; of equals, the later in the list.
    """
    best: dict[str, Elements] = {}
    replaced = []
    for one in elements:
        known = best.get(one.key)
        if known is not None:
            replaced.append(known if one.epoch_us >= known.epoch_us else one)
            if one.epoch_us < known.epoch_us:
                continue
        best[one.key] = one
    return list(best.values()), replaced
