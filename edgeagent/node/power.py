"""What calls at this node draw over idle, and what that and their time cost now (``edgeagent.cost``).

Written every few seconds by who reads sensors and sun (``accel_conditions``), read for every call.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from edgeagent.accel.goal import Energy
from edgeagent.accel.health import GpuReading
from edgeagent.cost.draws import DrawMeter
from edgeagent.cost.energy import (
    EnergyPrice,
    Supply,
    draw_of,
    energy_price_of,
    energy_usd,
    stored_usd_per_kwh,
    usd_per_kwh_now,
)
from edgeagent.cost.prices import gpu_usd_s, price_of
from edgeagent.node.call_marks import CallMarks
from edgeagent.node.config_energy import EnergySection
from edgeagent.node.config_schema import Config
from edgeagent.node.meters import PREFIX, Meters

__all__ = ["Bill", "Power", "power_of"]

_MWH = 1000.0  # kilowatt-hours


class Bill(msgspec.Struct):
    """What the calls of a function have drawn and cost so far; ``duration_us`` of them are in it."""

    duration_us: int = 0
    energy_j: float = 0.0
    cost_usd: float = 0.0


class Power:
    """On the event loop's thread; watts over idle, and US dollars. ``body_w`` is what the machine draws more with all
    ``cores`` at work than with none, None: by the kind of node.
    """

    def __init__(
        self,
        kind: str = "edge",
        section: EnergySection | None = None,
        *,
        body_w: float | None = None,
        cores: int = 0,
        meters: Meters | None = None,
    ) -> None:
        self._meters = meters or Meters()
        section = section or EnergySection()
        table, self.cores = draw_of(kind), cores or os.cpu_count() or 1
        self.core_w = table.core_w if body_w is None else body_w / self.cores
        self.core_why = table.source if body_w is None else "placement.busy_w less placement.idle_w"
        self._set_w = float(section.gpu_w)
        self.gpu_w = self._set_w or table.gpu_w
        self.gpu_why = "energy.gpu_w" if self._set_w else table.source
        self.cpu_usd_s, self.gpu_usd_s = price_of(kind).usd_per_cpu_s, gpu_usd_s(kind)
        self.price = _price(kind, section)
        self.usd_per_kwh, self.usd_why = usd_per_kwh_now(self.price, Supply())
        self._draws: dict[int, DrawMeter] = {}
        self._gpus: dict[int, GpuReading] = {}
        self._bills: dict[str, Bill] = {}

    def look(self, gpus: Iterable[GpuReading], supply: Supply) -> None:
        """What sensors say of the GPUs now, and what the node lives on. What was drawn until now had its price."""
        self.settle()
        self.usd_per_kwh, self.usd_why = usd_per_kwh_now(self.price, supply)
        self._gpus = {one.index: one for one in gpus}
        for one in self._gpus.values():
            meter = self._draws.setdefault(one.index, DrawMeter())
            meter.look(one.value("power_w"), one.value("utilisation"))
        seen = [watts for one in self._draws.values() if (watts := one.over_idle_w) is not None]
        if seen and not self._set_w:
            self.gpu_w, self.gpu_why = sum(seen) / len(seen), "measured: power by utilisation, less idle"

    def energy(self, cores: float) -> Energy:
        """For the controller, of a kernel that keeps so many cores busy."""
        return Energy(self.core_w, self.gpu_w, self.usd_per_kwh, cores)

    # -- bills ---------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Bring all bills up to date, at what things cost now."""
        for name in self._bills.keys() - self._meters.functions.keys():
            del self._bills[name]
        for name in self._meters.functions:
            self.bill(name)

    def bill(self, name: str) -> Bill:
        """Of a function that has a meter, up to date; an empty one for others."""
        meter = self._meters.functions.get(name)
        if meter is None:
            return Bill()
        bill = self._bills.setdefault(name, Bill())
        more_us = meter.durations.sum_us - bill.duration_us
        if more_us < 0:  # another meter: the function went and came again
            self._bills[name] = bill = Bill()
            more_us = meter.durations.sum_us
        self._add(bill, more_us * self.core_w / 1e6, more_us * self.cpu_usd_s / 1e6)
        bill.duration_us += more_us
        return bill

    def ran_kernels(self, name: str, marks: CallMarks) -> int:
        """A call's kernels drew so many microjoules beyond one core for as long as it ran; 0 or less: it waited."""
        core_ms = marks.core_ms - marks.waited_ms
        uj = round(1000.0 * (core_ms * self.core_w + marks.gpu_ms * self.gpu_w))
        usd = (core_ms * self.cpu_usd_s + marks.gpu_ms * self.gpu_usd_s) / 1000.0
        self._add(self._bills.setdefault(name, Bill()), uj / 1e6, usd)
        return uj

    def _add(self, bill: Bill, energy_j: float, usd: float) -> None:
        bill.energy_j += energy_j
        bill.cost_usd += usd + energy_usd(energy_j, self.usd_per_kwh)

    # -- views ---------------------------------------------------------------------------------------------------------

    def gpu_view(self, index: int, gpu_c: float | None) -> dict[str, float | None]:
        """What sensors said of a GPU a few seconds ago, None: nothing; ``gpu_c`` where it does not say its own heat."""
        one = self._gpus.get(index)
        if one is None:
            return {"temperature_c": gpu_c, "power_w": None, "utilisation": None}
        own_c = one.value("temperature_c")
        shown: dict[str, float | None] = {"temperature_c": gpu_c if own_c is None else own_c}
        return {**shown, "power_w": one.value("power_w"), "utilisation": one.value("utilisation")}

    def view(self) -> dict[str, Any]:
        """For ``/v1/accel``; watts over idle, where they come from, and prices."""
        idle = {index: one.idle_w for index, one in self._draws.items() if one.idle_w}
        return {
            "core_w": self.core_w,
            "core_source": self.core_why,
            "gpu_w": self.gpu_w,
            "gpu_source": self.gpu_why,
            "gpu_idle_w": {str(index): watts for index, watts in idle.items()},
            "usd_per_kwh": self.usd_per_kwh,
            "usd_per_kwh_why": self.usd_why,
            "price_source": self.price.source,
            "cpu_usd_s": self.cpu_usd_s,
            "gpu_usd_s": self.gpu_usd_s,
        }

    def bills(self) -> Iterator[tuple[str, Bill]]:
        """Of all functions that have a meter, by name."""
        self.settle()
        yield from sorted(self._bills.items())


def power_of(config: Config, kind: str, meters: Meters) -> Power:
    """Of a node of this kind with this configuration; ``/metrics`` shows it."""
    told = config.placement
    power = Power(kind, config.energy, body_w=float(told.busy_w - told.idle_w), meters=meters)
    meters.registry.register(_Shown(power))
    return power


class _Shown(Collector):
    def __init__(self, power: Power) -> None:
        self._power = power

    def collect(self) -> Iterator[Family]:
        """Called by the registry."""
        power = self._power
        draw = GaugeMetricFamily(
            PREFIX + "draw_watts", "over idle: a busy core, a busy GPU", labels=("backend",)
        )
        draw.add_metric(("cpu",), power.core_w)
        draw.add_metric(("gpu",), power.gpu_w)
        yield draw
        yield GaugeMetricFamily(
            PREFIX + "energy_usd_per_kwh", "what a kilowatt-hour costs now", value=power.usd_per_kwh
        )
        joules = CounterMetricFamily(
            PREFIX + "energy_joules",
            "drawn over idle by calls that succeeded, an estimate",
            labels=("function",),
        )
        usd = CounterMetricFamily(
            PREFIX + "cost_usd", "of the same calls: time and energy, by list prices", labels=("function",)
        )
        for name, bill in power.bills():
            joules.add_metric((name,), bill.energy_j)
            usd.add_metric((name,), bill.cost_usd)
        yield from (joules, usd)


def _price(kind: str, section: EnergySection) -> EnergyPrice:
    """Of the kind, but for what the configuration says."""
    listed = energy_price_of(kind)
    if section.usd_per_mwh < 0 and section.battery_usd_per_mwh < 0:
        return listed
    direct = listed.usd_per_kwh if section.usd_per_mwh < 0 else section.usd_per_mwh / _MWH
    stored = section.battery_usd_per_mwh / _MWH
    if section.battery_usd_per_mwh < 0:
        stored = stored_usd_per_kwh(listed, direct)
    return EnergyPrice(
        usd_per_kwh=direct, usd_per_kwh_stored=stored, source="[energy] of the configuration", date=""
    )
