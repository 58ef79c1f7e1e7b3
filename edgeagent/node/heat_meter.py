"""How hot this node is and how full its battery: as the system says, or, where orbits are emulated, as models say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeagent.placement.body import Body

__all__ = ["HeatMeter"]

_THERMAL = Path("/sys/class/thermal")
_POWER = Path("/sys/class/power_supply")


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
        self.battery = _fullest(sorted(self._power.glob("BAT*/capacity")))

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


def _numbers(paths: Sequence[Path]) -> list[float]:
    found = []
    for path in paths:
        try:
            found.append(float(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # a sensor that is asleep, or says nothing
            continue
    return found


def _hottest_c(paths: Sequence[Path]) -> float | None:
    return max((milli / 1000 for milli in _numbers(paths)), default=None)


def _fullest(paths: Sequence[Path]) -> float | None:
    return min((percent / 100 for percent in _numbers(paths)), default=None)
