"""What calls draw and what it costs: by configuration, sensors, sun and battery; bills that add up."""

from __future__ import annotations

import msgspec
import pytest

from edgeagent.accel.health import GpuReading, Metric
from edgeagent.cost.energy import DRAWS, ENERGY_PRICES, Supply
from edgeagent.cost.prices import PRICES
from edgeagent.node.call_marks import CallMarks
from edgeagent.node.config import load_config
from edgeagent.node.config_energy import EnergySection
from edgeagent.node.meters import Meters
from edgeagent.node.power import Power, power_of


def _seen(power_w: float, utilisation: float, index: int = 0) -> GpuReading:
    metrics = {"power_w": Metric(power_w, "nvml"), "utilisation": Metric(utilisation, "nvml")}
    return GpuReading(index=index, metrics=metrics)


@pytest.mark.parametrize("kind", ["cloud", "ground", "edge", "satellite"])
def test_without_sensors_and_words_it_is_as_its_kind(kind: str) -> None:
    power = Power(kind, cores=4)
    view = power.view()
    assert (view["core_w"], view["gpu_w"]) == (DRAWS[kind].core_w, DRAWS[kind].gpu_w)
    assert view["core_source"] == view["gpu_source"] == DRAWS[kind].source
    assert view["usd_per_kwh"] == ENERGY_PRICES[kind].usd_per_kwh
    assert view["price_source"] == ENERGY_PRICES[kind].source


def test_the_configuration_goes_before_the_kind_and_before_sensors() -> None:
    words = {"placement.idle_w": "10", "placement.busy_w": "90", "energy.gpu_w": "33"}
    prices = {"energy.usd_per_mwh": "200", "energy.battery_usd_per_mwh": "900"}
    meters = Meters()
    power = power_of(load_config(None, {}, {**words, **prices}), "edge", meters)
    assert power.core_w == pytest.approx(80.0 / power.cores)
    for _ in range(5):
        power.look([_seen(20.0, 0.0)], Supply())
        power.look([_seen(120.0, 1.0)], Supply())
    assert (power.gpu_w, power.gpu_why) == (33.0, "energy.gpu_w")
    assert power.usd_per_kwh == pytest.approx(0.2)
    power.look([], Supply(1.0, 0.3))
    assert power.usd_per_kwh == pytest.approx(0.9)
    text = meters.render().decode()
    assert "edgeagent_energy_usd_per_kwh 0.9\n" in text
    assert 'edgeagent_draw_watts{backend="gpu"} 33.0' in text


def test_a_price_of_the_mains_brings_that_of_the_battery_along() -> None:
    listed = ENERGY_PRICES["edge"]
    power = Power("edge", EnergySection(usd_per_mwh=300))
    assert power.price.usd_per_kwh == pytest.approx(0.3)
    dearer = power.price.usd_per_kwh_stored - listed.usd_per_kwh_stored
    assert dearer == pytest.approx((0.3 - listed.usd_per_kwh) / 0.9)
    only_battery = Power("edge", EnergySection(battery_usd_per_mwh=5000)).price
    assert (only_battery.usd_per_kwh, only_battery.usd_per_kwh_stored) == (listed.usd_per_kwh, 5.0)
    assert Power("edge", EnergySection(usd_per_mwh=0)).price.usd_per_kwh == 0.0


def test_a_gpu_s_draw_is_measured_where_sensors_say_power_and_utilisation() -> None:
    power = Power("ground")
    for _ in range(3):
        power.look([_seen(70.0, 0.0), GpuReading(index=1)], Supply())
        power.look([_seen(370.0, 1.0), GpuReading(index=1)], Supply())
    assert power.gpu_w == pytest.approx(300.0)
    assert power.gpu_why.startswith("measured")
    assert power.view()["gpu_idle_w"] == {"0": pytest.approx(70.0)}
    for _ in range(3):
        power.look([_seen(50.0, 0.0, 1)], Supply())
        power.look([_seen(100.0, 0.5, 1)], Supply())
    assert power.gpu_w == pytest.approx(200.0)  # the middle of both


def test_each_gpu_shows_what_its_own_sensors_say() -> None:
    power = Power("ground")
    nothing = {"temperature_c": 50.0, "power_w": None, "utilisation": None}
    assert power.gpu_view(0, 50.0) == nothing
    hot = msgspec.structs.replace(
        _seen(300.0, 0.5, 1), metrics={**_seen(300.0, 0.5).metrics, "temperature_c": Metric(81.0, "nvml")}
    )
    power.look([_seen(70.0, 0.0), hot], Supply())
    assert power.gpu_view(0, 50.0) == {"temperature_c": 50.0, "power_w": 70.0, "utilisation": 0.0}
    assert power.gpu_view(1, 50.0) == {"temperature_c": 81.0, "power_w": 300.0, "utilisation": 0.5}
    power.look([], Supply())
    assert power.gpu_view(1, 50.0) == nothing


def test_a_satellite_pays_for_its_battery_in_an_eclipse() -> None:
    power = Power("satellite")
    power.look([], Supply(0.7, 0.4, True))
    sun, why = power.usd_per_kwh, power.usd_why
    power.look([], Supply(0.7, 0.4, False))
    assert power.usd_per_kwh > sun
    assert why.startswith("in the sun")
    assert power.usd_why == "in an eclipse, the battery at 70%"
    assert power.energy(2.0).usd_per_kwh == power.usd_per_kwh


def test_bills_add_up_at_the_price_of_their_time() -> None:
    meters = Meters()
    power = Power(
        "edge", EnergySection(usd_per_mwh=1000, battery_usd_per_mwh=2000), body_w=8.0, cores=4, meters=meters
    )
    second = PRICES["edge"].usd_per_cpu_s
    assert power.bill("detect") == power.bill("detect")
    meters.function("detect").succeeded(3_600_000, 0, 0)
    power.look([], Supply(1.0, 0.3))  # twice as dear from now on
    bill = power.bill("detect")
    assert bill.energy_j == pytest.approx(7.2)
    assert bill.cost_usd == pytest.approx(3.6 * second + 2e-6)
    meters.function("detect").succeeded(3_600_000, 0, 0)
    assert power.bill("detect").cost_usd == pytest.approx(7.2 * second + 6e-6)
    assert [name for name, _ in power.bills()] == ["detect"]
    meters.forget("detect")
    assert power.bill("detect").energy_j == 0.0
    assert list(power.bills()) == []
    meters.function("detect").succeeded(1000, 0, 0)
    assert power.bill("detect").energy_j == pytest.approx(0.002)


def test_a_function_that_came_again_before_anybody_looked_begins_anew() -> None:
    meters = Meters()
    power = Power("edge", body_w=1.0, cores=1, meters=meters)
    meters.function("detect").succeeded(5_000_000, 0, 0)
    assert power.bill("detect").energy_j == pytest.approx(5.0)
    meters.forget("detect")
    meters.function("detect").succeeded(1_000_000, 0, 0)
    assert power.bill("detect").energy_j == pytest.approx(1.0)


def test_kernels_are_charged_by_what_worked_for_them_and_not_by_waiting() -> None:
    meters = Meters()
    power = Power("edge", EnergySection(gpu_w=100, usd_per_mwh=0), body_w=8.0, cores=4, meters=meters)
    meters.function("detect").succeeded(1_000_000, 0, 0)
    marks = CallMarks()
    marks.answered("fft2", "gpu", 600.0, 200.0)
    marks.answered("matmul", "cpu", 300.0, 1200.0)
    # 100 ms of its own and 1200 of kernels on cores of 2 W, 200 ms of a GPU of 100 W.
    uj = power.ran_kernels("detect", marks)
    assert 2_000_000 + uj == 2_600_000 + 20_000_000
    bill = power.bill("detect")
    assert bill.energy_j == pytest.approx(22.6)
    assert bill.cost_usd == pytest.approx(1.3 * power.cpu_usd_s + 0.2 * power.gpu_usd_s)
    assert msgspec.structs.asdict(bill)["duration_us"] == 1_000_000
