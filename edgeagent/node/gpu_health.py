"""The health of this node's GPUs: looked at every two seconds, judged, shown, told to the mesh.

Nothing here waits for a driver on the event loop's thread, and nothing that NVML does ends the node: that is the
probe's process (:mod:`gpu_probe`). Without a GPU there is no process either, only a few stats every ten seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from edgeagent.accel.health import METRICS, GpuReading, Look
from edgeagent.accel.health_judge import HealthJudge, HealthLimits, throttle_words
from edgeagent.model.gpu import USABLE, GpuState
from edgeagent.node.gpu_probe import GpuProbe, gpu_is_here

__all__ = ["GpuHealth", "GpuTold"]

log = structlog.get_logger("gpu")

_EVERY_S, _ABSENT_EVERY_S = 2.0, 10.0
_PREFIX = "edgeagent_gpu_"


class GpuTold(msgspec.Struct, frozen=True, kw_only=True):
    """All GPUs of the node in one, as peers hear of them. ``name`` is empty while none can be used."""

    name: str = ""
    state: GpuState = GpuState.ABSENT
    utilisation: float | None = None
    temperature_c: float | None = None
    memory_free_bytes: int | None = None
    queue: int | None = None

    def as_load(self) -> dict[str, Any]:
        """The fields that a load in gossip and one in placement have in common; a node without a GPU says none."""
        return {
            "gpu": self.utilisation,
            "gpu_state": None if self.state is GpuState.ABSENT else self.state,
            "gpu_temperature_c": self.temperature_c,
            "gpu_queue": self.queue,
        }


class GpuHealth(Collector):
    """On the event loop's thread. ``xid_heard`` hears of critical errors: (index of the GPU, the error's number)."""

    def __init__(
        self,
        *,
        probe: GpuProbe | None = None,
        root: Path = Path("/"),
        limits: HealthLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._probe = probe or GpuProbe(root=root)
        self._limits = limits
        self._clock = clock
        self._judges: dict[int, HealthJudge] = {}
        self._names: dict[int, str] = {}
        self._falls: dict[int, int] = {}
        self._task: asyncio.Task[None] | None = None
        self.look = Look()
        self.queue: Callable[[], int] | None = None  # calls that wait for the GPU, once somebody queues them
        self.xid_heard: Callable[[int, int], None] | None = None

    def start(self) -> None:
        """Begin to look; returns at once."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._keep_looking())

    async def close(self) -> None:
        """Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._probe.close()

    async def look_once(self) -> bool:
        """One look at everything; whether there was anything to look at."""
        if not self._judges and not await asyncio.to_thread(gpu_is_here, self._root):
            return False
        self.look = await self._probe.look()
        self._judge()
        return True

    async def _keep_looking(self) -> None:
        while True:
            try:
                found = await self.look_once()
            except Exception:  # a fault of ours: the next look may be better, the node goes on
                log.exception("a look at the GPUs failed")
                found = False
            await asyncio.sleep(_EVERY_S if found else _ABSENT_EVERY_S)

    def _judge(self) -> None:
        now_s = self._clock()
        seen = {one.index: one for one in self.look.gpus}
        for index in seen.keys() | self._judges.keys():
            judge = self._judges.setdefault(index, HealthJudge(self._limits))
            before = judge.state
            reading = seen.get(index)
            if reading is None and self.look.nvml:
                after = judge.silent(now_s, self.look.nvml)
            else:
                after = judge.update(reading, now_s)
            if reading is not None and reading.name:
                self._names[index] = reading.name
            if after is not before:
                log.info(
                    "gpu", index=index, state=after.name.lower(), before=before.name.lower(), why=judge.why
                )
            for xid in reading.xids if reading is not None else ():
                log.warning("gpu: a critical error", index=index, xid=xid)
                if self.xid_heard is not None:
                    self.xid_heard(index, xid)

    # -- what others say of it -----------------------------------------------------------------------------------------

    def vouch(self, index: int, *, well: bool) -> None:
        """A computation with a known answer was right, or was not; counts where no source says anything."""
        judge = self._judges.setdefault(index, HealthJudge(self._limits))
        judge.vouched = well
        if not well:
            judge.strike(self._clock(), "it computed a wrong answer, or none")

    def broker(self, index: int, *, ready: bool, falls: int) -> None:
        """What the broker of a GPU says of it: that its self-test passed, and how often it fell so far."""
        if falls > self._falls.get(index, 0):
            self._falls[index] = falls
            self.strike(index, "its broker fell")
        if ready:
            self.vouch(index, well=True)

    def strike(self, index: int, why: str) -> None:
        """The GPU was at fault."""
        self._judges.setdefault(index, HealthJudge(self._limits)).strike(self._clock(), why)

    # -- views ---------------------------------------------------------------------------------------------------------

    def state_of(self, index: int) -> GpuState:
        """ABSENT for one that was never seen."""
        judge = self._judges.get(index)
        return GpuState.ABSENT if judge is None else judge.state

    def barred(self, index: int) -> str:
        """Why its own node must not use it either; empty: it may. What it computes is not to be trusted before a
        reset. Faults alone are no reason here: the broker's back-off and the controllers know of them.
        """
        judge = self._judges.get(index)
        if judge is None or judge.state is not GpuState.DRAINING:
            return ""
        return f"draining: {judge.why}"

    def told(self) -> GpuTold:
        """For peers: of what can be used the mean utilisation, the hottest, and the most free memory."""
        states = {index: judge.state for index, judge in self._judges.items() if judge.state in USABLE}
        if not states:
            return GpuTold(state=min((one.state for one in self._judges.values()), default=GpuState.ABSENT))
        usable = [one for one in self.look.gpus if one.index in states]
        shares = _known(usable, "utilisation")
        free = [
            total - used
            for one in usable
            if (total := one.value("memory_total_bytes")) is not None
            and (used := one.value("memory_used_bytes")) is not None
        ]
        return GpuTold(
            name=self._names.get(min(states), "GPU")[:64],
            state=min(states.values()),
            utilisation=sum(shares) / len(shares) if shares else None,
            temperature_c=max(_known(usable, "temperature_c"), default=None),
            memory_free_bytes=int(max(free)) if free else None,
            queue=None if self.queue is None else self.queue(),
        )

    def view(self) -> dict[str, Any]:
        """For ``/v1/node``."""
        return {
            "nvml": self.look.nvml or ("ok" if self.look.gpus else ""),
            "probe_failures": self._probe.failures,
            "devices": [self._device(one) for one in self.look.gpus],
        }

    def _device(self, one: GpuReading) -> dict[str, Any]:
        judge = self._judges.get(one.index)
        return {
            "index": one.index,
            "name": one.name,
            "uuid": one.uuid,
            "integrated": one.integrated,
            "state": self.state_of(one.index).name.lower(),
            "why": "" if judge is None else judge.why,
            "throttled_by": throttle_words(one.value("throttle_reasons")),
            "metrics": {
                name: {"absent": found.why}
                if found.value is None
                else {"value": found.value, "source": found.source, "by": found.why}
                for name, found in sorted(one.metrics.items())
            },
        }

    def collect(self) -> Iterator[Family]:
        """For ``/metrics``; what is absent has no series."""
        labels = ("gpu",)
        state = GaugeMetricFamily(
            _PREFIX + "state", "1 for the state that the GPU is in", labels=("gpu", "state")
        )
        for index, judge in sorted(self._judges.items()):
            state.add_metric((str(index), judge.state.name.lower()), 1.0)
        yield state
        for name, (unit, _, _) in METRICS.items():
            family = GaugeMetricFamily(_PREFIX + name, f"of the GPU: {unit}", labels=labels)
            for one in self.look.gpus:
                if (value := one.value(name)) is not None:
                    family.add_metric((str(one.index),), value)
            yield family
        failures = GaugeMetricFamily(_PREFIX + "probe_failures", "probes that did not answer, or ended")
        failures.add_metric((), float(self._probe.failures))
        yield failures


def _known(readings: list[GpuReading], metric: str) -> list[float]:
    return [value for one in readings if (value := one.value(metric)) is not None]
