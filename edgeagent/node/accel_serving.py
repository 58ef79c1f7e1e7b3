"""One kernel call on a node with a GPU: where it goes, what beside it is tried, and that it is answered once.

1. The route says CPU or GPU. A call for the GPU has its operands copied out of the guest's memory (but for those that
   the broker can read in a hose), and its outputs copied back only when all went well: until then it is as it was.
2. Whatever the GPU answers but the outputs, the call is done again by the CPU, within the same ask (a replay). It is a
   failure of the GPU, unless the queue was full, or the broker was lost with another call. So it is where the GPU takes
   until the CPU needs what is left of the invocation's time: a device that hangs costs no answer.
3. A probe runs the same call on the other backend, on copies; the guest does not wait for it. Probes of the CPU cannot
   be stopped once they run, so that they may take ``_CPU_PROBE_SHARE`` of the time of one core.
4. A call of more than ``CallLimits.cpu_s`` is only ever sent to a GPU; where none may serve it, it is refused.
5. A function that is pinned to the GPU is refused (OFF, FULL) where the GPU is not ready or full; what was under way
   when it was lost is replayed all the same.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import NamedTuple

import structlog

from edgeagent.accel.arena import Slot
from edgeagent.accel.broker import Broker
from edgeagent.accel.broker_wire import Done
from edgeagent.accel.errors import GpuFailed, GpuFull, GpuTooSmall, LostBeside, OperandRefused
from edgeagent.accel.execute import Prepared
from edgeagent.accel.kernel_errors import KernelTooLarge
from edgeagent.accel.packing import Packing, read_outputs, write_inputs
from edgeagent.accel.probing import ProbePlan
from edgeagent.accel.settings import Backend
from edgeagent.model.errors import Busy, Cancelled, Unavailable
from edgeagent.node.accel_gpus import Gpus
from edgeagent.node.accel_routing import FunctionRoutes, Routing
from edgeagent.node.accel_ways import CallPlan, Way, way_of
from edgeagent.node.call_marks import marks_of
from edgeagent.node.meters import Meters
from edgeagent.runtime.port import Ask, Window

__all__ = ["CpuRuns", "Serving"]

log = structlog.get_logger("accel")

_CPU_PROBE_SHARE = 0.05
_REFUSED_S = 60.0
_HERE_BYTES_MAX = 32 << 10  # less is copied where the loop runs: a thread would take longer


class CpuRuns(NamedTuple):
    """What Serving needs of the threads: a call in a guest's memory, which tells the seconds that cores worked in all,
    one in a slot, and anything else.
    """

    guest: Callable[[Ask, Prepared], Awaitable[float]]
    slot: Callable[[str, Packing, Slot], Awaitable[None]]
    other: Callable[[Callable[[], None]], Awaitable[None]]


class _Call(NamedTuple):
    ask: Ask
    plan: CallPlan
    routes: FunctionRoutes

    @property
    def kernel(self) -> str:
        return self.plan.kernel

    @property
    def size(self) -> float:
        return self.plan.size


class Serving:
    """On the event loop's thread."""

    def __init__(
        self,
        gpus: Gpus,
        routing: Routing,
        cpu: CpuRuns,
        meters: Meters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gpus, self.routing = gpus, routing
        self._cpu, self._meters, self._clock = cpu, meters, clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._cpu_probe_from_s = self._copies_until_s = 0.0

    async def serve(self, ask: Ask, plan: CallPlan, routes: FunctionRoutes) -> None:
        """Raises what the kernel raises on the CPU; of a pinned function Unavailable and Busy."""
        call = _Call(ask, plan, routes)
        if routes.wants_gpu:
            self.gpus.want()
        if plan.beyond_cpu is not None:
            await self._only_on_gpu(call, plan.beyond_cpu)
            return
        route = routes.route(self._clock(), plan.kernel, plan.size, ready=self.gpus.ready)
        if route.backend == "gpu":
            if await self._on_gpu(call, route.probe):
                return
            await self._on_cpu(call, None)
        else:
            await self._on_cpu(call, route.probe)

    async def _only_on_gpu(self, call: _Call, refusal: KernelTooLarge) -> None:
        """A call that no CPU may be asked for: there is no choice, no probe and no replay. It waits for the broker at
        most ``deadline_s`` of the GPU's time, and its guest no longer than its invocation may.
        """
        rests = call.routes.gpu_rests(self._clock(), call.kernel, ready=self.gpus.ready)
        if rests:
            raise KernelTooLarge(refusal.message, hint=f"{refusal.hint}, and no GPU does it: {rests}")
        if not await self._on_gpu(call, None):
            raise refusal

    async def stop(self) -> None:
        """Give probes up, and let the GPUs go."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.gpus.close()

    # -- GPU -----------------------------------------------------------------------------------------------------------

    async def _on_gpu(self, call: _Call, probe: ProbePlan | None) -> bool:
        """Whether it was answered there."""
        begun_s = self._clock()
        broker = self.gpus.pick()
        if broker is None:
            if call.routes.mode == "gpu":
                raise Unavailable(f"{call.ask.function} is pinned to the GPU: {self.gpus.why_not}")
            return False
        try:
            # A probe of the CPU works in the slot, and so wants all operands there.
            way = Way(call.plan.packing) if probe is not None else await self._way(call)
            try:
                await self._through(call, probe, broker, way, begun_s)
            except OperandRefused as error:
                self._refused(call, error)
                await self._through(call, probe, broker, Way(call.plan.packing), begun_s)
        except GpuFull as error:
            return self._too_busy(call, error)
        except GpuFailed as error:
            self._failed(call, error)
            return False
        return True

    async def _way(self, call: _Call) -> Way:
        window = call.ask.window
        assert window is not None
        if not call.plan.may_lie or self._clock() < self._copies_until_s:
            return Way(call.plan.packing)
        found: list[Way] = []
        await self._cpu.other(lambda: found.append(way_of(call.plan, window)))
        return found[0]

    def _refused(self, call: _Call, error: OperandRefused) -> None:
        self._meters.count("accel_operands_refused")
        self._copies_until_s = self._clock() + _REFUSED_S  # what refuses one mostly refuses all
        log.info("operands are copied for the GPU", function=call.ask.function, why=error.message)

    async def _through(
        self, call: _Call, probe: ProbePlan | None, broker: Broker, way: Way, begun_s: float
    ) -> None:
        packing = way.packing
        slot = broker.reserve(packing.slot_bytes, call.ask.function)
        try:
            await self._copy(write_inputs, packing, call, slot)
            done = await self._run(call, broker, way, slot, self._patience_s(call))
            await self._copy(_back, packing, call, slot)
            self._served(call, "gpu", self._ms_since(begun_s), done.run_us / 1000)
            self._probe_cpu(call, probe, packing, slot, self._ms_since(begun_s))
        finally:
            slot.drop()

    def _patience_s(self, call: _Call) -> float:
        """So that a GPU that hangs costs a call some of its time, and not its answer."""
        marks = marks_of(call.ask.context)
        if marks is None:
            return math.inf
        until_s = marks.until_s(call.routes.deployed.manifest.limits.wall_ms)
        return call.plan.patience_s(until_s - self._clock())

    async def _run(
        self, call: _Call, broker: Broker, way: Way, slot: Slot, patience_s: float = math.inf
    ) -> Done:
        packing = way.packing
        for name, count in (("copied", packing.input_bytes), ("mapped", way.mapped_bytes)):
            if count:
                self._meters.count(f"accel_{name}_bytes", count)
        described = packing.described
        return await broker.run(
            call.ask.function, call.kernel, described, slot, packing.maps, way.sources, patience_s
        )

    def _served(self, call: _Call, backend: Backend, ms: float, worked_ms: float) -> None:
        """After ``ms``, for which cores, or the GPU, worked for ``worked_ms`` in all."""
        call.plan.took_s[backend] = ms / 1000
        call.routes.worked_s[backend] += worked_ms / 1000
        call.routes.served(self._clock(), call.kernel, call.size, backend, ms)
        self._meters.count(f"accel_{backend}_calls")
        if (marks := marks_of(call.ask.context)) is not None:
            marks.answered(call.kernel, backend, ms, worked_ms)

    def _too_busy(self, call: _Call, error: GpuFull) -> bool:
        self._meters.count("accel_gpu_busy")
        if call.routes.mode == "gpu":
            kind = KernelTooLarge if isinstance(error, GpuTooSmall) else Busy
            raise kind(f"{call.ask.function} is pinned to the GPU: {error.message}", hint=error.hint)
        return False

    def _failed(self, call: _Call, error: GpuFailed) -> None:
        if not isinstance(error, LostBeside):
            call.routes.served(self._clock(), call.kernel, call.size, "gpu", 0.0, failed=True)
        if call.plan.beyond_cpu is None:
            call.routes.replays += 1
            self._meters.count("accel_replays")
        log.warning(
            "a kernel is done again by the CPU"
            if call.plan.beyond_cpu is None
            else "a kernel failed on the GPU, and is too much for the CPU",
            function=call.ask.function,
            kernel=call.kernel,
            why=error.message,
        )

    async def _copy(
        self,
        how: Callable[[Packing, memoryview, memoryview], None],
        packing: Packing,
        call: _Call,
        slot: Slot,
    ) -> None:
        window = call.ask.window
        assert window is not None
        if packing.copied_bytes <= _HERE_BYTES_MAX and packing.is_raw:
            _inside(window, how, packing, slot)
        else:
            await self._cpu.other(lambda: _inside(window, how, packing, slot))

    # -- CPU -----------------------------------------------------------------------------------------------------------

    async def _on_cpu(self, call: _Call, probe: ProbePlan | None) -> None:
        shadow = None if probe is None else await self._shadow(call, probe)
        begun_s = self._clock()
        try:
            worked_s = await self._cpu.guest(call.ask, call.plan.prepared)
        except Cancelled:
            if shadow is not None:
                shadow.cancel()
            raise
        except BaseException:
            if shadow is not None:
                shadow.cancel()
            call.routes.served(self._clock(), call.kernel, call.size, "cpu", 0.0, failed=True)
            raise
        ms = self._ms_since(begun_s)
        self._served(call, "cpu", ms, 1000 * worked_s)
        if shadow is not None:
            shadow.set_result(ms)

    async def _shadow(self, call: _Call, probe: ProbePlan) -> asyncio.Future[float] | None:
        """Begin the same call on the GPU; it must be told what the CPU took. The inputs are copied first: a kernel
        may work in place.
        """
        broker = self.gpus.pick()
        if broker is None:
            return None
        begun_s = self._clock()
        way = await self._way(call)
        try:
            slot = broker.reserve(way.packing.slot_bytes, call.ask.function)
        except GpuFull:
            return None
        try:
            await self._copy(write_inputs, way.packing, call, slot)
        except BaseException:
            slot.drop()
            raise
        served: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._spawn(self._probe_gpu(call, probe, way, (broker, slot), begun_s, served))
        return served

    async def _probe_gpu(
        self,
        call: _Call,
        probe: ProbePlan,
        way: Way,
        at: tuple[Broker, Slot],
        begun_s: float,
        served: asyncio.Future[float],
    ) -> None:
        broker, slot = at
        run = asyncio.ensure_future(self._timed(self._run(call, broker, way, slot), begun_s))
        try:
            served_ms = await served
            limit_ms = probe.limit_ms(served_ms)
            left_s = limit_ms / 1000 - (self._clock() - begun_s)
            done, _ = await asyncio.wait({run}, timeout=max(0.0, left_s))
            if not done:
                self._tell_probe(call, probe, served_ms, limit_ms)
                return
            self._tell_probe(call, probe, served_ms, min(run.result(), limit_ms))
        except OperandRefused as error:
            self._refused(call, error)
        except (GpuFull, LostBeside):
            pass  # no news of what the GPU does with it
        except GpuFailed as error:
            log.info("a probe of the GPU failed", function=call.ask.function, why=error.message)
            self._tell_probe(call, probe, served_ms, 0.0, failed=True)
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            slot.drop()

    async def _timed(self, run: Awaitable[object], begun_s: float) -> float:
        await run
        return self._ms_since(begun_s)

    # -- probes of the CPU ---------------------------------------------------------------------------------------------

    def _probe_cpu(
        self, call: _Call, probe: ProbePlan | None, packing: Packing, slot: Slot, served_ms: float
    ) -> None:
        """In the slot: its inputs are intact, and its outputs have been read."""
        if probe is None or self._clock() < self._cpu_probe_from_s:
            return
        self._cpu_probe_from_s = float("inf")
        slot.hold()
        self._spawn(self._run_cpu_probe(call, probe, packing, slot, served_ms))

    async def _run_cpu_probe(
        self, call: _Call, probe: ProbePlan, packing: Packing, slot: Slot, served_ms: float
    ) -> None:
        begun_s = self._clock()
        failed = False
        try:
            await self._cpu.slot(call.kernel, packing, slot)
        except Exception as error:  # noqa: BLE001 - of others' kernels
            failed = True
            log.info("a probe of the CPU failed", function=call.ask.function, why=str(error))
        finally:
            slot.drop()
            took_s = self._clock() - begun_s
            self._cpu_probe_from_s = self._clock() + took_s * (1.0 / _CPU_PROBE_SHARE - 1.0)
        ms = min(took_s * 1000, probe.limit_ms(served_ms))
        self._tell_probe(call, probe, served_ms, ms, failed=failed)

    def _tell_probe(
        self, call: _Call, probe: ProbePlan, served_ms: float, ms: float, *, failed: bool = False
    ) -> None:
        self._meters.count("accel_probes")
        call.routes.probed(self._clock(), call.kernel, call.size, probe, served_ms, ms, failed=failed)

    def _ms_since(self, begun_s: float) -> float:
        return (self._clock() - begun_s) * 1000

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _back(packing: Packing, memory: memoryview, slot: memoryview) -> None:
    read_outputs(packing, slot, memory)


def _inside(
    window: Window, how: Callable[[Packing, memoryview, memoryview], None], packing: Packing, slot: Slot
) -> None:
    """Raises Cancelled where the call that asked is over."""
    try:
        memory = window.enter()
    except ValueError:
        raise Cancelled("the call that asked is over") from None
    try:
        how(packing, memory, slot.memory)
    finally:
        memory.release()
        window.leave()
