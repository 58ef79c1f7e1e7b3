"""A member whose clock is not set: it is a member, predicts nothing, says so, and predicts once the clock is set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from edgeagent.gossip.presets import preset
from edgeagent.gossip.states import State
from edgeagent.mesh.service import MeshService
from edgeagent.mesh.settings import MeshSettings
from edgeagent.mesh.views import peers_view
from edgeagent.orbit.elements import Elements

WAIT_S = 30.0


def _elements() -> Elements:
    return Elements(
        epoch_us=int(time.time()) * 10**6, mean_motion_rev_day=15.2, eccentricity=0.0005, inclination_deg=53.0,
        raan_deg=20.0, arg_perigee_deg=0.0, mean_anomaly_deg=1.0, norad_id=50001,
    )  # fmt: skip


class Clock:
    """A boot in 1970, until somebody sets it."""

    is_set = False

    def __call__(self) -> bool:
        return self.is_set


def _service(name: str, clock_is_set: Callable[[], bool], epoch_ms: int, **more: Any) -> MeshService:
    settings = MeshSettings(host="127.0.0.1", port=0, knobs=preset("local"))
    return MeshService(
        name, msgspec.structs.replace(settings, **more), epoch_ms=epoch_ms, persist=lambda _: None,
        clock_is_set=clock_is_set,
    )  # fmt: skip


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not done():  # noqa: ASYNC110 - what changes is inside the services
            await asyncio.sleep(0.01)


def _run(main: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(4 * WAIT_S):
            await main

    asyncio.run(bounded())


async def _boot_in_1970() -> None:
    clock = Clock()
    good = _service("good", lambda: True, int(time.time() * 1000), place=(48.2, 16.4, 171.0))
    await good.start(())
    seed = good.address.rpartition(":")
    dark = _service("dark", clock, 5000, seeds=(("127.0.0.1", int(seed[2])),), elements=_elements())
    await dark.start(())
    loop = asyncio.get_running_loop()
    try:
        await _until(lambda: dark.core.states() == {"good": State.ALIVE})
        await _until(lambda: good.core.states() == {"dark": State.ALIVE})
        await _until(lambda: {"good", "dark"} <= dark.sky.nodes.keys())
        view = peers_view(dark, loop.time())
        assert view["clock"] == "unsynchronised"
        assert view["predicted_until"] is None
        assert [one["in_contact"] for one in view["peers"]] == [None]
        assert "latitude_deg" not in view["place"]
        assert peers_view(good, loop.time())["clock"] == "ok"
        clock.is_set = True
        await _until(lambda: dark.sky.table is not None and dark.sky.table.end_s > time.time())
        view = peers_view(dark, loop.time())
        assert view["clock"] == "ok"
        assert view["predicted_until"] is not None
        assert "latitude_deg" in view["place"]
    finally:
        await dark.close()
        await good.close()


def test_a_boot_in_1970_predicts_nothing_until_the_clock_is_set() -> None:
    _run(_boot_in_1970())


async def _life_before() -> None:
    """Its disk and its clock are gone: its first version is below what others hold."""
    good = _service("good", lambda: True, int(time.time() * 1000))
    await good.start(())
    seed = (("127.0.0.1", int(good.address.rpartition(":")[2])),)
    first = _service("dark", lambda: True, int(time.time() * 1000), seeds=seed)
    await first.start(())
    await _until(lambda: good.core.states() == {"dark": State.ALIVE})
    before = first.core.incarnation
    assert first.carrier is not None
    carrier, first.carrier = first.carrier, None  # no farewell: it lost its power
    await carrier.close()
    await first.close()
    again = _service("dark", lambda: False, 5000, seeds=seed)
    await again.start(())
    try:
        await _until(lambda: again.core.incarnation > before)
        await _until(lambda: good.core.states() == {"dark": State.ALIVE})
        member = good.core.member("dark")
        assert member is not None
        await _until(lambda: member.incarnation == again.core.incarnation)
        assert not again.name_taken
    finally:
        await again.close()
        await good.close()


def test_one_that_lost_disk_and_clock_goes_on_above_its_former_life() -> None:
    _run(_life_before())
