"""What running guests ask of ``edge_accel``, done by numpy on threads of the node, in the guests' own memory; where the
node has a GPU, by it, as ``accel_serving`` says.

A guest gets 0 or a code, whatever it says and whatever happens here: nothing that it does ends anything but its own
call.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import structlog

from edgeagent.accel.execute import CallLimits, Prepared, beyond_cpu, prepare, run_on_cpu
from edgeagent.accel.guest_layout import Backend, Code, code_of, pack_query
from edgeagent.accel.registry import Registry, load_others, shipped
from edgeagent.cost.draws import CoresMeter
from edgeagent.model.errors import Cancelled, EdgeError, NotFound
from edgeagent.model.function import Deployed
from edgeagent.node.call_marks import marks_of
from edgeagent.node.kernel_threads import SHORT_S, KernelThreads
from edgeagent.node.meters import Meters
from edgeagent.runtime.port import Ask, AskKind, Engine, Payload

if TYPE_CHECKING:
    from edgeagent.accel.arena import Slot
    from edgeagent.accel.packing import Packing
    from edgeagent.node.accel_gpus import Gpus
    from edgeagent.node.accel_routing import FunctionRoutes, Routing
    from edgeagent.node.accel_serving import Serving
    from edgeagent.node.accel_ways import CallPlan

__all__ = ["AccelGuest"]

log = structlog.get_logger("accel")

_PREPARED_MAX = 1024


def _nothing(name: str) -> Deployed:
    raise NotFound(f"no function is called {name!r}")


class AccelGuest:
    """On the event loop's thread; kernels run on threads of their own."""

    def __init__(
        self,
        engine: Engine,
        meters: Meters,
        registry: Registry | None = None,
        limits: CallLimits | None = None,
    ) -> None:
        self._engine = engine
        self._meters = meters
        self.on_cpu: Counter[str] = Counter()  # kernel calls that were done without a question, by function
        self._limits = limits or CallLimits()
        self._given = registry
        self._is_stopped = False
        self._loading = threading.Lock()
        self._threads = KernelThreads()
        self._tasks: set[asyncio.Task[None]] = set()
        # Every run of a function begins in the same memory, and so describes its calls by the same bytes.
        self._prepared = lru_cache(_PREPARED_MAX)(self._prepare)
        self._plans: OrderedDict[tuple[bytes, bytes, int], CallPlan] = OrderedDict()
        self._serving: Serving | None = None
        self.cores = CoresMeter(os.cpu_count() or 1)
        self._deployed: Callable[[str], Deployed] = _nothing

    def use_gpus(self, gpus: Gpus, routing: Routing, deployed: Callable[[str], Deployed]) -> None:
        """Before the first call. ``deployed`` raises NotFound."""
        from edgeagent.node.accel_serving import CpuRuns, Serving

        runs = CpuRuns(self._on_cpu, self._in_slot, self._on_thread)
        self._serving = Serving(gpus, routing, runs, self._meters)
        self._deployed = deployed

    def asked(self, ask: Ask) -> None:
        """A guest waits for ``engine.answer``."""
        if self._is_stopped:
            self._engine.answer(ask.call_id, Code.OFF)
            return
        task = asyncio.get_running_loop().create_task(self._serve(ask))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """What waits is given up, what runs comes to its end first: it cannot be stopped."""
        self._is_stopped = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._serving is not None:
            await self._serving.stop()
        await self._threads.stop()

    async def _serve(self, ask: Ask) -> None:
        status, answer = int(Code.FAILED), None
        try:
            if ask.kind is AskKind.ACCEL_QUERY:
                answer = await self._threads.short(self._query, ask)
            elif (routes := self._routes(ask.function)) is None:
                await self._alone(ask)
            else:
                assert self._serving is not None
                await self._serving.serve(ask, await self._plan(ask), routes)
            status = 0
        except EdgeError as error:
            status = code_of(error)
            if status in {Code.FAILED, Code.OFF} and not isinstance(error, Cancelled):
                log.warning("a kernel failed a function", function=ask.function, why=error.message)
        except Exception:  # a fault of ours must not leave the guest waiting
            log.exception("a kernel failed a function", function=ask.function)
        if ask.kind is AskKind.ACCEL_CALL:
            self._meters.count("accel_calls" if status == 0 else "accel_calls_failed")
        self._engine.answer(ask.call_id, status, answer)

    async def _alone(self, ask: Ask) -> None:
        """By the CPU, without a question."""
        begun_s, kernel = time.monotonic(), ask.name.decode("ascii", "replace")
        took_s = await self._threads.short(self._run_if_short, ask)
        if isinstance(took_s, Prepared):
            took_s = await self._threads.long(ask.function, self._run_prepared, ask, took_s)
        worked_s = self._worked_s(kernel, took_s)
        self.on_cpu[ask.function] += 1
        if (marks := marks_of(ask.context)) is not None:
            ms = 1000.0 * (time.monotonic() - begun_s)
            marks.answered(kernel, "cpu", ms, 1000.0 * worked_s)

    def _worked_s(self, kernel: str, took_s: tuple[float, float]) -> float:
        """What its cores worked in all for a call that has run; waiting for a thread, or for its turn, is no work."""
        self.cores.ran(kernel, *took_s)
        return took_s[0] * self.cores.of(kernel)

    def _routes(self, function: str) -> FunctionRoutes | None:
        """None: its calls are the CPU's without a question."""
        if self._serving is None:
            return None
        try:
            routes = self._serving.routing.of(self._deployed(function))
        except NotFound:  # undeployed while it runs
            return None
        return None if routes.mode == "cpu" else routes

    async def _plan(self, ask: Ask) -> CallPlan:
        """As it was prepared before, or on a thread: other kernels' packages are imported there."""
        from edgeagent.node.accel_ways import CallPlan

        assert ask.window is not None
        key = ask.name, ask.extra, ask.window.size
        plan = self._plans.get(key)
        if plan is None:
            name = ask.name.decode("ascii", "replace")
            prepared = await self._threads.short(
                self._prepare, name, ask.extra, ask.window.size, self._limits._replace(cpu_s=math.inf)
            )
            plan = CallPlan(name, prepared, beyond_cpu(prepared, self._limits.cpu_s))
            self._plans[key] = plan
            if len(self._plans) > _PREPARED_MAX:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan

    async def _on_thread(self, work: Callable[[], None]) -> None:
        await self._threads.short(work)

    async def _on_cpu(self, ask: Ask, prepared: Prepared) -> float:
        """Returns the seconds that cores worked in all."""
        if prepared.work.cpu_s <= SHORT_S:
            took_s = await self._threads.short(self._run_prepared, ask, prepared)
        else:
            took_s = await self._threads.long(ask.function, self._run_prepared, ask, prepared)
        return self._worked_s(ask.name.decode("ascii", "replace"), took_s)

    async def _in_slot(self, kernel: str, packing: Packing, slot: Slot) -> None:
        """Of no function: it is a probe, of which there is one at a time."""
        await self._threads.long("", self._run_in_slot, kernel, packing, slot)

    # -- on a kernel's thread ------------------------------------------------------------------------------------------

    def _kernels(self) -> Registry:
        """The shipped kernels and others', whose packages are imported at the first use."""
        with self._loading:
            if self._given is None:
                registry = shipped()
                for failed in load_others(registry):
                    log.warning("a kernel was not loaded", entry_point=failed.name, why=failed.why)
                self._given = registry
            return self._given

    def _prepare(
        self, name: str, described: bytes, memory_bytes: int, limits: CallLimits | None = None
    ) -> Prepared:
        return prepare(self._kernels(), name, described, memory_bytes, limits or self._limits)

    def _query(self, _ask: Ask) -> Payload:
        is_ready = self._serving is not None and self._serving.gpus.ready
        backends = Backend.CPU | Backend.GPU if is_ready else Backend.CPU
        return self._engine.payload_of(pack_query(backends, (kernel.name for kernel in self._kernels())))

    def _run_if_short(self, ask: Ask) -> Prepared | tuple[float, float]:
        """What is left to be done, or what it took."""
        window = ask.window
        assert window is not None
        name = ask.name.decode("ascii", "replace")
        prepared = self._prepared(name, ask.extra, window.size)
        return prepared if prepared.work.cpu_s > SHORT_S else self._run_prepared(ask, prepared)

    def _run_in_slot(self, kernel: str, packing: Packing, slot: Slot) -> None:
        run_on_cpu(self._prepare(kernel, packing.described, len(slot.memory)), slot.memory)

    def _run_prepared(self, ask: Ask, prepared: Prepared) -> tuple[float, float]:
        """Seconds that it took, and that all threads of the process worked meanwhile."""
        window = ask.window
        assert window is not None
        try:
            memory = window.enter()
        except ValueError:
            raise Cancelled("the call that asked is over") from None
        begun_s, worked_s = time.perf_counter(), time.process_time()
        try:
            run_on_cpu(prepared, memory)
        finally:
            memory.release()
            window.leave()
        return time.perf_counter() - begun_s, time.process_time() - worked_s
