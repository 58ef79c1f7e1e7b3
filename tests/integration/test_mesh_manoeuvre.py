"""A satellite that manoeuvred: measurements win over its elements, it is asked for new ones, and those count again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from edgeagent.gossip.commands import Ask, Command, PlanChanged
from edgeagent.gossip.presets import preset
from edgeagent.mesh.measured import CONTRADICTIONS
from edgeagent.mesh.service import MeshService
from edgeagent.mesh.settings import MeshSettings
from edgeagent.orbit.elements import Elements

WAIT_S = 60.0


def _elements(epoch_s: float) -> Elements:
    return Elements(
        epoch_us=int(epoch_s * 1e6), mean_motion_rev_day=15.2, eccentricity=0.0005, inclination_deg=53.0,
        raan_deg=20.0, arg_perigee_deg=0.0, mean_anomaly_deg=1.0, norad_id=50001,
    )  # fmt: skip


def _service(name: str, **more: Any) -> MeshService:
    settings = MeshSettings(host="127.0.0.1", port=0, knobs=preset("local"))
    return MeshService(
        name,
        msgspec.structs.replace(settings, **more),
        epoch_ms=int(time.time() * 1000),
        persist=lambda _: None,
        clock_is_set=lambda: True,
    )


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not done():  # noqa: ASYNC110 - what changes is inside the services
            await asyncio.sleep(0.01)


async def _manoeuvre(monkeypatch: pytest.MonkeyPatch, *, reachable: bool, round_trip_s: float) -> None:
    now_s = time.time()
    ground = _service("ground", place=(48.2, 16.4, 171.0))
    await ground.start(())
    port = int(ground.address.rpartition(":")[2])
    flying = _service("sat", seeds=(("127.0.0.1", port),), elements=_elements(now_s))
    await flying.start(())
    try:
        await _until(lambda: ground.sky.predicts("ground", "sat", time.time()))
        await _until(lambda: "sat" in ground.core.states())
        asked: list[Command] = []
        carrier = ground.carrier
        assert carrier is not None
        command = carrier.command

        def hear(one: Command) -> None:
            asked.append(one)
            command(one)

        monkeypatch.setattr(carrier, "command", hear)
        monkeypatch.setattr(ground, "_is_far", True)  # on loopback distances are no distances
        monkeypatch.setattr(ground.sky, "reachable", lambda *_: reachable)
        for _ in range(CONTRADICTIONS):
            assert not ground.sky.is_distrusted("sat")
            ground._measured("sat", round_trip_s)
        assert ground.sky.is_distrusted("sat")
        assert ground.contradicted == 1
        assert [one for one in asked if isinstance(one, Ask | PlanChanged)] == [
            PlanChanged(("sat",)),
            Ask("sat"),
        ]
        monkeypatch.setattr(ground, "_is_far", False)
        flying._moved(_elements(now_s + 1.0))
        await _until(lambda: not ground.sky.is_distrusted("sat") and "sat" in ground.sky.nodes)
    finally:
        await flying.close()
        await ground.close()


@pytest.mark.parametrize(
    ("reachable", "round_trip_s"),
    [(True, 1e-6), (False, 10.0)],  # faster than light; an answer while no route is predicted
)
def test_measurements_win_until_there_are_newer_elements(
    monkeypatch: pytest.MonkeyPatch, reachable: bool, round_trip_s: float
) -> None:
    asyncio.run(_manoeuvre(monkeypatch, reachable=reachable, round_trip_s=round_trip_s))
