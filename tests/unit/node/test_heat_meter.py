"""Heat and battery: sensors that speak, are silent, or are modelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeagent.node.heat_meter import HeatMeter
from edgeagent.placement.body import Body


def test_sensors(tmp_path: Path) -> None:
    meter = HeatMeter(thermal=tmp_path, power=tmp_path)
    meter.look()
    assert (meter.temperature_c, meter.battery) == (None, None)
    for number, text in enumerate(("41500\n", "asleep", "39000")):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "temp").write_text(text)
    (tmp_path / "BAT0").mkdir()
    (tmp_path / "BAT0/capacity").write_text("64\n")
    meter.look()
    assert meter.temperature_c == 41.5
    assert meter.battery == pytest.approx(0.64)


def test_models() -> None:
    meter = HeatMeter()
    body = Body(temperature_c_max=60.0, battery_wh=10.0, idle_w=5.0, busy_w=15.0, base_c=20.0)
    for _ in range(100):
        meter.model(body, busy_share=1.0, sunlit=False, seconds=60.0)
    assert meter.temperature_c == pytest.approx(20.0 + 1.5 * 15.0, abs=0.1)
    assert meter.battery == 0.0
    meter.model(Body(), busy_share=1.0, sunlit=None, seconds=60.0)  # nothing to model: what was known stays
    assert meter.battery == 0.0
