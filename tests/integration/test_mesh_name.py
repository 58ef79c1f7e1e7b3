"""Two nodes with one id notice it, and the one that stays notices that the other is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
import pytest

from edgeagent.gossip.presets import preset
from edgeagent.mesh.service import MeshService
from edgeagent.mesh.settings import MeshSettings
from edgeagent.mesh.views import peers_view

WAIT_S = 60.0
# Four intervals without a record of the other one are enough: 4 s instead of 40.
KNOBS = msgspec.structs.replace(preset("local"), push_pull_interval_s=1.0)


async def _service(name: str, seed: MeshService | None = None, *, later_ms: int = 0) -> MeshService:
    seeds = () if seed is None else (("127.0.0.1", int(seed.address.rpartition(":")[2])),)
    service = MeshService(
        name,
        MeshSettings(host="127.0.0.1", port=0, knobs=KNOBS, seeds=seeds),
        epoch_ms=int(time.time() * 1000) + later_ms,
        persist=lambda _: None,
        clock_is_set=lambda: True,
    )
    await service.start(())
    return service


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not done():  # noqa: ASYNC110 - what changes is inside the services
            await asyncio.sleep(0.01)


def _is_taken(service: MeshService) -> bool:
    return bool(peers_view(service, asyncio.get_running_loop().time())["name_taken"])


async def _taken_and_free(*, killed: bool) -> None:
    first = await _service("a")
    stays, goes = await _service("b", first), await _service("b", first, later_ms=9)
    try:
        await _until(lambda: _is_taken(stays) and _is_taken(goes))
        if killed:
            carrier, goes.carrier = goes.carrier, None  # no farewell
            assert carrier is not None
            await carrier.close()
        await goes.close()
        renamed = await _service("c", first)
        await _until(lambda: not _is_taken(stays))
        names = {"a", "b", "c"}
        await _until(lambda: set(stays.core.states()) == names - {"b"})
        await _until(lambda: set(first.core.states()) == names - {"a"})
        await renamed.close()
    finally:
        for service in (goes, stays, first):
            await service.close()


@pytest.mark.parametrize("killed", [False, True])
def test_a_name_is_free_again_once_the_other_node_has_another(killed: bool) -> None:
    asyncio.run(_taken_and_free(killed=killed))
