"""A satellite whose own elements grow old while it runs says so at each limit, not only at its start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from edgeagent.mesh import service as service_module
from edgeagent.mesh.service import MeshService
from edgeagent.mesh.settings import MeshSettings
from edgeagent.orbit.elements import Elements

NOW_S = 1_790_000_000.0
DAY_S = 86_400.0
WAIT_S = 30.0


def _elements(epoch_s: float) -> Elements:
    return Elements(
        epoch_us=int(epoch_s) * 10**6, mean_motion_rev_day=15.0, eccentricity=0.0005, inclination_deg=53.0,
        raan_deg=20.0, arg_perigee_deg=0.0, mean_anomaly_deg=1.0, norad_id=50001,
    )  # fmt: skip


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not done():  # noqa: ASYNC110 - what changes is inside the service
            await asyncio.sleep(0.01)


async def _months() -> None:
    clock_s = NOW_S
    looks = 0

    def utc_s() -> float:
        nonlocal looks
        looks += 1
        return clock_s

    service = MeshService(
        "sat",
        MeshSettings(host="127.0.0.1", port=0, elements=_elements(NOW_S)),
        epoch_ms=int(time.time() * 1000),
        persist=lambda _: None,
        clock_is_set=lambda: True,
        utc_s=utc_s,
    )
    with capture_logs() as logs:

        def said() -> list[str]:
            return [one["elements"] for one in logs if one["event"] == "this node's own elements are old"]

        await service.start(())
        try:
            assert said() == []
            clock_s = NOW_S + 4 * DAY_S
            await _until(lambda: said() == ["aged"])
            before = looks
            await _until(lambda: looks > before + 20)  # it looked again, and said nothing
            assert said() == ["aged"]
            clock_s = NOW_S + 20 * DAY_S
            await _until(lambda: said() == ["aged", "stale"])
            service._moved(_elements(clock_s))
            await _until(lambda: looks > before + 50)
            clock_s += 4 * DAY_S
            await _until(lambda: said() == ["aged", "stale", "aged"])
        finally:
            await service.close()


def test_elements_that_grow_old_are_told_at_each_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "_CLOCK_EVERY_S", 0.005)
    asyncio.run(_months())
