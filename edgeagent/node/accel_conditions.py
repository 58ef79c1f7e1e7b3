"""What the controller must know of the node beside latencies: the GPU's heat, the battery, the next eclipse, and what a
kilowatt-hour costs.

``AccelConditions.now()`` is a read of a few values, for every request; what takes long (a prediction of the orbit,
sensors) is renewed beside it every ``_EVERY_S``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from edgeagent.accel.conditions import Conditions
from edgeagent.cost.energy import Supply
from edgeagent.model.gpu import GpuState
from edgeagent.node.gpu_health import GpuHealth
from edgeagent.node.heat_meter import HeatMeter
from edgeagent.node.membership import Membership
from edgeagent.node.meters import Meters
from edgeagent.node.power import Power

if TYPE_CHECKING:
    from edgeagent.node.accel import Acceleration

__all__ = ["AccelConditions"]

log = structlog.get_logger("accel")

_EVERY_S = 5.0
_AHEAD_S = 900.0


class AccelConditions:
    """On the event loop's thread. ``gpu`` is the health of the node's GPUs, told to the mesh; ``sensors`` serve a node
    without a mesh, which has no other meter of them.
    """

    def __init__(
        self,
        membership: Membership,
        gpu: GpuHealth | None = None,
        sensors: HeatMeter | None = None,
        power: Power | None = None,
    ) -> None:
        self._membership = membership
        self._power = power or Power()
        self.gpu = gpu or GpuHealth()
        self._sensors = sensors or HeatMeter()
        self._eclipse_in_s: float | None = None
        self._accel: Acceleration | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, meters: Meters) -> None:
        """Begin to renew what ``now`` reads, to look at the GPUs, and to tell of them."""
        if self._task is None:
            self._membership.gpu = self.gpu.told
            meters.registry.register(self.gpu)
            self.gpu.start()
            self._task = asyncio.ensure_future(self._keep_renewing())

    def serve(self, accel: Acceleration) -> None:
        """It asks what ``now`` says; what its brokers say of their GPUs is heard."""
        self._accel = accel
        accel.watch(self.now)
        if accel.gpus is not None:
            brokers = accel.gpus.brokers
            self.gpu.queue = lambda: sum(one.load for one in brokers)

    async def close(self) -> None:
        """Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self.gpu.close()

    def now(self) -> Conditions:
        """The node now; the heat of the GPU, or of the board where the GPU does not say its own."""
        board_c, battery = self._membership.heat_and_battery()
        board_c = self._sensors.temperature_c if board_c is None else board_c
        told = self.gpu.told()
        return Conditions(
            gpu_c=board_c if told.temperature_c is None else told.temperature_c,
            battery_share=self._sensors.battery if battery is None else battery,
            eclipse_in_s=self._eclipse_in_s,
            throttled=told.state is GpuState.THROTTLED,
        )

    async def renew(self) -> None:
        """The eclipse ahead, in seconds of this node's clock; sensors where there is no mesh to have read them; whose
        broker is ready, whose fell, and which must not be used.
        """
        self._eclipse_in_s, sunlit = await self._sky()
        if self._membership.heat_and_battery() == (None, None):
            await asyncio.to_thread(self._sensors.look)
        if self._accel is not None and self._accel.gpus is not None:
            for one in self._accel.gpus.brokers:
                self.gpu.broker(one.device, ready=one.ready, falls=one.life.falls)
                one.barred = self.gpu.barred(one.device)
        battery, reserve = self.now().battery_share, self._membership.battery_reserve
        self._power.look(self.gpu.look.gpus, Supply(battery, reserve, sunlit))

    async def _sky(self) -> tuple[float | None, bool | None]:
        """The next eclipse, and whether there is sun now; None: not known."""
        membership = self._membership
        service, utc_s = membership.service, membership.utc_now_s()
        if service is None or utc_s is None:
            return None, None
        from edgeagent.mesh.sky import eclipse_in_s, sunlit

        speed, node = membership.orbital_speed, service.sky.nodes.get(service.name)
        found_s = await asyncio.to_thread(eclipse_in_s, node, utc_s, _AHEAD_S * speed)
        lit = await asyncio.to_thread(sunlit, node, utc_s)
        return (None if found_s is None else found_s / speed), lit

    async def _keep_renewing(self) -> None:
        while True:
            try:
                await self.renew()
            except Exception:  # a fault of ours: what was known stays, and the node goes on
                log.exception("the node's conditions could not be renewed")
            await asyncio.sleep(_EVERY_S)
