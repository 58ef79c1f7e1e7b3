"""How hot this node is and how full its battery: as the system says, or, where orbits are emulated, as models say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeagent.placement.body import Body

__all__ = ["HeatMeter"]

_THERMAL = Path("/sys/class/thermal")
_POWER = Path("/sys/class/power_supply")
_LEAST_C, _MOST_C = -60.0, 150.0  # of what can be


class HeatMeter:
    """``temperature_c`` and ``battery`` (0 to 1), None where the system does not say."""

    def __init__(self, *, thermal: Path = _THERMAL, power: Path = _POWER) -> None:
        self._thermal = thermal
        self._power = power
        self.temperature_c: float | None = None
        self.battery: float | None = None

    def look(self) -> None:
        """Read the sensors."""
        self.temperature_c = _hottest_c(sorted(self._thermal.glob("thermal_zone*/temp")))
        self.battery = _emptiest(sorted(self._power.glob("*")))

    def model(self, body: Body, *, busy_share: float, sunlit: bool | None, seconds: float) -> None:
        """Instead of sensors: so long passed, with this load and this sun."""
        from edgeagent.placement.battery import charge_after
        from edgeagent.placement.thermal import temperature_after_c

        sun = 0.0 if sunlit is None else float(sunlit)
        if body.temperature_c_max is not None:
            watts = body.idle_w + (body.busy_w - body.idle_w) * busy_share
            now_c = body.base_c if self.temperature_c is None else self.temperature_c
            self.temperature_c = round(temperature_after_c(body, now_c, watts, sun, seconds), 3)
        if body.battery_wh is not None:
            share = 1.0 if self.battery is None else self.battery
            self.battery = round(charge_after(body, share, busy_share, [(seconds, sun)]), 5)


def _text(path: Path) -> str:
    """Empty where it says nothing."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # a sensor that is asleep, or was taken away
        return ""


def _number(path: Path) -> float:
    """Not a number where it says none."""
    try:
        return float(_text(path))
    except ValueError:
        return math.nan


def _hottest_c(zones: Sequence[Path]) -> float | None:
    """Sensors that are switched off say what cannot be: 2147 million degrees, or some hundred below zero."""
    found = [_number(path) / 1000 for path in zones]
    return max((one for one in found if _LEAST_C <= one <= _MOST_C), default=None)


def _emptiest(supplies: Sequence[Path]) -> float | None:
    """Of the system's own batteries, whatever they are called; a mouse has one too, of scope Device."""
    found = [
        _number(path / "capacity") / 100
        for path in supplies
        if _text(path / "scope") != "Device"
        and (_text(path / "type") or ("Battery" if path.name.startswith("BAT") else "")) == "Battery"
    ]
    return min((one for one in found if 0.0 <= one <= 1.0), default=None)
