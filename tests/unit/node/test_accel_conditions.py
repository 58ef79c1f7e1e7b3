"""What the controller hears of the node: each value from the nearest meter that has it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgeagent.accel.conditions import Conditions, Veto
from edgeagent.accel.health import GpuReading, Look, Metric
from edgeagent.model.gpu import GpuState
from edgeagent.node.accel_conditions import AccelConditions
from edgeagent.node.gpu_health import GpuHealth, GpuTold
from edgeagent.node.gpu_probe import GpuProbe
from edgeagent.node.heat_meter import HeatMeter
from edgeagent.node.membership import Membership
from edgeagent.node.meters import Meters
from edgeagent.node.power import Power


@dataclass
class _Node:
    """What of a membership and of GPU health is asked here."""

    heat: float | None = None
    battery: float | None = None
    of_gpu: GpuTold = field(default_factory=GpuTold)
    service: Any = None
    orbital_speed: float = 10.0
    utc_s: float | None = 1000.0
    battery_reserve: float = 0.3

    def heat_and_battery(self) -> tuple[float | None, float | None]:
        return self.heat, self.battery

    def utc_now_s(self) -> float | None:
        return self.utc_s


class _Idle(GpuProbe):
    answer = Look()

    async def look(self) -> Look:
        return self.answer


def _conditions(node: _Node, sensors: HeatMeter | None = None, power: Power | None = None) -> AccelConditions:
    gpu = GpuHealth(probe=_Idle(), root=Path("/nonexistent"))
    gpu.told = lambda: node.of_gpu  # type: ignore[method-assign]
    return AccelConditions(cast("Membership", node), gpu, sensors, power)


def test_the_gpus_own_heat_comes_before_the_boards() -> None:
    node = _Node(heat=50.0, battery=0.8)
    assert _conditions(node).now() == Conditions(gpu_c=50.0, battery_share=0.8)
    node.of_gpu = GpuTold(name="x", state=GpuState.THROTTLED, temperature_c=88.0)
    assert _conditions(node).now() == Conditions(gpu_c=88.0, battery_share=0.8, throttled=True)
    assert Veto().update(_conditions(node).now()) == "heat"


def test_without_a_mesh_the_sensors_are_read_here(tmp_path: Path) -> None:
    (tmp_path / "thermal_zone0").mkdir()
    (tmp_path / "thermal_zone0/temp").write_text("91000\n")
    one = _conditions(_Node(), HeatMeter(thermal=tmp_path, power=tmp_path))
    assert one.now() == Conditions()
    asyncio.run(one.renew())
    assert one.now() == Conditions(gpu_c=91.0)


def test_an_eclipse_ahead_is_told_in_seconds_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, float, float]] = []

    def found(node: object, utc_s: float, ahead_s: float) -> float | None:
        asked.append((node, utc_s, ahead_s))
        return 600.0 if node == "satellite" else None

    monkeypatch.setattr("edgeagent.mesh.sky.eclipse_in_s", found)
    monkeypatch.setattr("edgeagent.mesh.sky.sunlit", lambda node, _: node == "satellite" or None)
    service = SimpleNamespace(name="n", sky=SimpleNamespace(nodes={"n": "satellite"}))
    node = _Node(heat=20.0, battery=0.4, service=service)
    power = Power("satellite")
    one = _conditions(node, power=power)
    asyncio.run(one.renew())
    assert power.usd_why == "in the sun, the battery at 40%"
    assert asked == [("satellite", 1000.0, 9000.0)]
    assert one.now() == Conditions(gpu_c=20.0, battery_share=0.4, eclipse_in_s=60.0)
    assert Veto().update(one.now()) == "eclipse"
    service.sky.nodes.clear()
    asyncio.run(one.renew())
    assert one.now().eclipse_in_s is None
    assert power.usd_why == "out of the battery, at 40%"
    node.utc_s = None  # the clock is not set: nothing is predicted
    asyncio.run(one.renew())
    assert len(asked) == 2


def test_a_fault_of_ours_keeps_what_was_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.node.accel_conditions._EVERY_S", 0.0)

    async def run() -> None:
        one = _conditions(_Node(heat=20.0))
        looks = 0
        again = asyncio.Event()

        async def broken() -> None:
            nonlocal looks
            looks += 1
            if looks == 3:
                again.set()
            raise RuntimeError("a fault")

        monkeypatch.setattr(one, "renew", broken)
        one.start(Meters())
        one.start(Meters())
        await asyncio.wait_for(again.wait(), 10.0)
        await one.close()
        await one.close()
        assert one.now().gpu_c == 20.0

    asyncio.run(run())


def test_brokers_vouch_for_their_gpus_and_their_falls_are_strikes() -> None:
    brokers = [SimpleNamespace(device=0, ready=True, load=2, life=SimpleNamespace(falls=0))]
    asked: list[object] = []
    accel = SimpleNamespace(gpus=SimpleNamespace(brokers=brokers), watch=asked.append)
    gpu = GpuHealth(probe=_Idle(), root=Path("/nonexistent"))
    one = AccelConditions(cast("Membership", _Node(heat=20.0)), gpu)
    one.serve(cast("Any", accel))
    assert asked == [one.now]
    asyncio.run(one.renew())
    assert gpu.queue is not None
    assert gpu.queue() == 2
    assert gpu.state_of(0) is GpuState.PROBING  # until the next look
    for falls in (1, 2, 2, 3):
        brokers[0].life.falls = falls
        asyncio.run(one.renew())
    assert gpu.state_of(0) is GpuState.QUARANTINED
    assert brokers[0].barred == ""  # the back-off of its broker is reason enough to wait
    one.serve(cast("Any", SimpleNamespace(gpus=None, watch=asked.append)))  # a node without GPUs
    asyncio.run(one.renew())
    assert len(asked) == 2


def test_a_gpu_whose_memory_needs_a_reset_is_barred_and_used_again_after_one() -> None:
    brokers = [SimpleNamespace(device=i, ready=True, load=0, life=SimpleNamespace(falls=0)) for i in range(2)]
    accel = SimpleNamespace(gpus=SimpleNamespace(brokers=brokers), watch=lambda _: None)
    probe = _Idle()
    gpu = GpuHealth(probe=probe, root=Path("/nonexistent"))
    one = AccelConditions(cast("Membership", _Node(heat=20.0)), gpu)
    one.serve(cast("Any", accel))

    def barred(*xids: int, errors: float) -> list[str]:
        metrics = {"ecc_uncorrected": Metric(value=errors, source="nvml")}
        probe.answer = Look(gpus=(GpuReading(index=0, xids=xids, metrics=metrics), GpuReading(index=1)))

        async def seen() -> None:
            await gpu.look_once()
            await one.renew()

        asyncio.run(seen())
        return [each.barred for each in brokers]

    asyncio.run(one.renew())
    assert barred(errors=0.0) == ["", ""]
    assert barred(48, errors=1.0) == ["draining: critical error 48: its memory needs a reset", ""]
    assert barred(errors=1.0)[0].startswith("draining")
    assert barred(errors=0.0) == ["", ""]  # the driver began anew
