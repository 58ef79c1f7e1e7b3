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


def plant(folder: Path, **texts: str) -> None:
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text)


def test_what_cannot_be_is_not_believed(tmp_path: Path) -> None:
    for number, text in enumerate(("2147483647", "-274000", "nan", "inf", "52000\n")):
        plant(tmp_path / f"thermal_zone{number}", temp=text)
    plant(tmp_path / "BAT0", capacity="250")
    meter = HeatMeter(thermal=tmp_path, power=tmp_path)
    meter.look()
    assert (meter.temperature_c, meter.battery) == (52.0, None)


def test_batteries_of_the_system_by_any_name(tmp_path: Path) -> None:
    plant(tmp_path / "sbs-5-000b", type="Battery\n", capacity="41")
    plant(tmp_path / "axp20x-battery", type="Battery", scope="System", capacity="80")
    plant(tmp_path / "hidpp_battery_0", type="Battery", scope="Device\n", capacity="3")
    plant(tmp_path / "AC", type="Mains", online="1", capacity="0")
    meter = HeatMeter(thermal=tmp_path, power=tmp_path)
    meter.look()
    assert meter.battery == pytest.approx(0.41)


def test_models() -> None:
    meter = HeatMeter()
    body = Body(temperature_c_max=60.0, battery_wh=10.0, idle_w=5.0, busy_w=15.0, base_c=20.0)
    for _ in range(100):
        meter.model(body, busy_share=1.0, sunlit=False, seconds=60.0)
    assert meter.temperature_c == pytest.approx(20.0 + 1.5 * 15.0, abs=0.1)
    assert meter.battery == 0.0
    meter.model(Body(), busy_share=1.0, sunlit=None, seconds=60.0)  # nothing to model: what was known stays
    assert meter.battery == 0.0
