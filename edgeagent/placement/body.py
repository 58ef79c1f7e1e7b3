"""What heats, cools, charges and drains a node: the constants of its two models, and how gossip carries them.

They do not change while a node runs, so they go as two of its labels (gossip's capabilities section), as numbers
without units: ``heat:max C,recommended C,tau s,C per W,base C,sun C`` and ``power:Wh,reserve,solar W,idle W,busy W``.
A number that is left out is not known, or has its default.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from edgeagent.placement.errors import PlanRefused

__all__ = ["LABEL_CHARACTERS_MAX", "Body", "body_of"]

LABEL_CHARACTERS_MAX = 64  # gossip's bound of a label
_HEAT = ("temperature_c_max", "temperature_c_recommended", "heat_tau_s", "heat_c_per_w", "base_c", "sun_c")
_POWER = ("battery_wh", "battery_reserve", "solar_w", "idle_w", "busy_w")
_DIGITS = (9, 6, 4, 2)  # as many as fit the label; two always do


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """The constants of a node's heat (``thermal.py``) and battery (``battery.py``); None is no limit.

    ``heat_c_per_w`` and ``sun_c`` say how much warmer it gets in the end, per watt and in full sun; ``base_c`` is how
    warm it is without either. ``battery_reserve`` is the share of ``battery_wh`` that work must not touch. Raises
    PlanRefused for constants that cannot be.
    """

    temperature_c_max: float | None = None
    temperature_c_recommended: float | None = None
    heat_tau_s: float = 600.0
    heat_c_per_w: float = 1.5
    base_c: float = 20.0
    sun_c: float = 10.0
    battery_wh: float | None = None
    battery_reserve: float = 0.3
    solar_w: float = 0.0
    idle_w: float = 5.0
    busy_w: float = 15.0

    def __post_init__(self) -> None:
        numbers = [getattr(self, name) for name in (*_HEAT, *_POWER)]
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise PlanRefused("a constant of a node's body is not finite", hint="leave out what is not known")
        if self.heat_tau_s <= 0.0 or (self.battery_wh is not None and self.battery_wh <= 0.0):
            raise PlanRefused("heat_tau_s or battery_wh is not positive", hint="give more than 0")
        if min(self.heat_c_per_w, self.sun_c, self.solar_w, self.idle_w) < 0.0:
            raise PlanRefused("a constant of a node's body is negative", hint="give 0 or more")
        if self.busy_w < self.idle_w or not 0.0 <= self.battery_reserve < 1.0:
            raise PlanRefused(
                "busy_w is below idle_w, or battery_reserve is no share",
                hint="a reserve is from 0 to below 1",
            )

    def labels(self) -> tuple[str, ...]:
        """At most two labels, of at most LABEL_CHARACTERS_MAX characters; none for a body of defaults.

        Numbers keep nine digits where they fit, else fewer.
        """
        return tuple(
            _label(prefix, [getattr(self, name) for name in names])
            for prefix, names in (("heat:", _HEAT), ("power:", _POWER))
            if any(getattr(self, name) != getattr(_DEFAULT, name) for name in names)
        )


_DEFAULT = Body()


def _label(prefix: str, numbers: list[float | None]) -> str:
    text = ""
    for digits in _DIGITS:
        text = prefix + ",".join("" if one is None else f"{one:.{digits}g}" for one in numbers)
        if len(text) <= LABEL_CHARACTERS_MAX:
            break
    return text


def _numbers(label: str, prefix: str, names: tuple[str, ...]) -> dict[str, float]:
    """The constants that a label tells; none where it is malformed."""
    parts = label.removeprefix(prefix).split(",")
    if len(parts) > len(names):
        return {}
    try:
        told = {name: float(part) for name, part in zip(names, parts, strict=False) if part.strip()}
        Body(**told)
    except (ValueError, PlanRefused):
        return {}
    return told


def body_of(labels: Iterable[str]) -> Body:
    """The body that a node's labels tell. What is malformed, or cannot be, counts as not told: no limits."""
    told: dict[str, float] = {}
    for label in labels:
        for prefix, names in (("heat:", _HEAT), ("power:", _POWER)):
            if label.startswith(prefix):
                told.update(_numbers(label, prefix, names))
    return Body(**told)
