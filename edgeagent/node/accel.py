"""GPUs in a node: who asks for kernels, what runs them, and what is shown of it (``/v1/accel``, ``/metrics``).

Where there is no GPU nothing of all this is made: kernels run on the CPU, and the node says so once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from edgeagent.accel.broker_state import State
from edgeagent.accel.devices import NO_GPU, count_gpus
from edgeagent.accel.nn_layout import NN_MODULE
from edgeagent.model.errors import Unavailable
from edgeagent.model.function import Deployed
from edgeagent.node.accel_guest import AccelGuest
from edgeagent.node.call_marks import CallMarks
from edgeagent.node.config_accel import AccelSection
from edgeagent.node.functions import Functions
from edgeagent.node.loaded import LoadedEntry
from edgeagent.node.meters import Meters
from edgeagent.node.power import Power
from edgeagent.runtime.port import Engine

if TYPE_CHECKING:
    from edgeagent.accel.conditions import Conditions
    from edgeagent.accel.controller import Change
    from edgeagent.node.accel_gpus import Gpus
    from edgeagent.node.accel_keeper import Keeper
    from edgeagent.node.accel_routing import FunctionRoutes, Routing
    from edgeagent.node.node import Node

__all__ = ["Acceleration", "acceleration_of"]

log = structlog.get_logger("accel")

_RETRY_S = 5
_RETRY_NONE_S = 60  # until somebody mends the node, or the manifest
_LET_CPU = "[accel] mode = 'gpu_preferred' in its manifest lets the CPU serve it"
_NEVER = "accel.enabled = never"


class Acceleration:
    """On the event loop's thread. ``cache_dir`` is for compiled code; ``backend``: what brokers drive, if not CUDA.

    What was learned of CPU and GPU is kept in ``state_dir``; None: nowhere.
    """

    def __init__(
        self,
        section: AccelSection,
        engine: Engine,
        functions: Functions,
        meters: Meters,
        *,
        cache_dir: str = "",
        backend: str = "",
        state_dir: Path | None = None,
    ) -> None:
        self.guest = AccelGuest(engine, meters)
        self.power = Power()
        self.gpus: Gpus | None = None
        self.routing: Routing | None = None
        self._functions, self._meters = functions, meters
        self._keeper: Keeper | None = None
        self._conditions: Callable[[], Conditions] | None = None
        self._why_none = _NEVER if section.enabled == "never" else NO_GPU
        count = 0 if section.enabled == "never" else 1 if backend else count_gpus()
        if count:
            self._open(section, count, cache_dir, backend, state_dir)
        else:
            from edgeagent.node.accel_meters import CpuMeters

            meters.registry.register(CpuMeters(self._modes, self.guest.on_cpu))
            log.info("kernels run on the CPU", why=self._why_none)

    def _modes(self) -> Iterator[tuple[str, str]]:
        for one in self._functions.list():
            if _calls_kernels(one):
                yield one.name, _mode(one)

    def _open(
        self, section: AccelSection, count: int, cache_dir: str, backend: str, state_dir: Path | None
    ) -> None:
        from edgeagent.node.accel_gpus import open_gpus
        from edgeagent.node.accel_keeper import KEPT, Keeper
        from edgeagent.node.accel_meters import AccelMeters
        from edgeagent.node.accel_routing import Routing

        self.gpus = open_gpus(section, count, cache_dir, backend)
        self.routing = Routing(random.Random(), changed=self._changed)
        gpus = self.gpus
        self.routing.forgotten, self.routing.device = gpus.forget, lambda: gpus.described
        self.routing.why_not, self.routing.falls = lambda: gpus.why_not, lambda: gpus.falls
        if state_dir is not None:
            self._keeper = Keeper(state_dir / KEPT)
            self.routing.shelf = self._keeper.read()
        self.guest.use_gpus(self.gpus, self.routing, self._functions.get)
        self._meters.registry.register(AccelMeters(self.gpus, self.routing, self.guest.on_cpu))

    def draws(self, power: Power) -> None:
        """What seconds and joules cost on this node."""
        self.power = power
        if self.routing is not None:
            self.routing.prices = (power.cpu_usd_s, power.gpu_usd_s)
            self.routing.energy = lambda kernel: power.energy(self.guest.cores.of(kernel))

    def watch(self, conditions: Callable[[], Conditions]) -> None:
        """Who knows heat, battery and sun: they may forbid the GPU. Asked for every kernel call."""
        self._conditions = conditions
        if self.routing is not None:
            self.routing.conditions = conditions

    def forget(self, name: str) -> None:
        """A function is gone."""
        self.guest.on_cpu.pop(name, None)
        if self.routing is not None:
            self.routing.forget(name)

    def admit(self, entry: LoadedEntry) -> None:
        """Raises Unavailable where a function is pinned to a GPU that is not ready: nobody waits for one."""
        if self.gpus is None or self.routing is None:
            if _mode(entry.deployed) == "gpu":
                raise Unavailable(
                    f"{entry.name} is pinned to the GPU, and this node uses none: {self._why_none}",
                    hint=_LET_CPU,
                    retry_after_s=_RETRY_NONE_S,
                )
            return
        if self.routing.of(entry.deployed).mode != "gpu":
            return
        if _runs_models_alone(entry.deployed):
            raise Unavailable(
                f"{entry.name} is pinned to the GPU, and nodes run models on the CPU",
                hint=_LET_CPU,
                retry_after_s=_RETRY_NONE_S,
            )
        self.gpus.want()
        if not self.gpus.ready:
            raise Unavailable(
                f"{entry.name} is pinned to the GPU: {self.gpus.why_not}", retry_after_s=_RETRY_S
            )

    def ended(self, entry: LoadedEntry, marks: CallMarks, whole_ms: float) -> int:
        """A call of a function that asks for kernels came to its end, waiting for its turn not counted. Returns the
        microjoules that its kernels drew beyond one core for as long as it ran.
        """
        if not marks.kernels:
            return 0
        if self.routing is not None:
            self.routing.ended(entry.deployed, marks.kernels, whole_ms)
        return self.power.ran_kernels(entry.name, marks)

    def keep_up(self) -> None:
        """Now and then: a function that is pinned to the GPU should find it ready, however rarely it is called; and
        what was learned is kept.
        """
        if self.gpus is None or self.routing is None:
            return
        if self._keeper is not None:
            self._keeper.look(self.routing)
        routing = self.routing
        self.gpus.keep(
            one=any(
                _may_be_refused(deployed) and routing.of(deployed).mode == "gpu"
                for deployed in self._functions.list()
            )
        )

    async def stop(self) -> None:
        await self.guest.stop()
        if self._keeper is not None and self.routing is not None:
            await self._keeper.close(self.routing)

    def _changed(self, function: str, change: Change) -> None:
        self._meters.count("accel_switches")
        log.info(
            "a function goes to another backend",
            function=function,
            backend=change.backend,
            why=change.reason,
            gain=round(change.gain, 3),
            size_class=change.size_class,
        )

    # -- views ---------------------------------------------------------------------------------------------------------

    def view(self) -> dict[str, Any]:
        """What ``/v1/accel`` shows; times in milliseconds, temperatures in degrees Celsius, None: not known. Seconds,
        joules and dollars are of this process.
        """
        gpu_c = None if self._conditions is None else self._conditions().gpu_c
        seen = [] if self.gpus is None else self.gpus.view()
        gpus = [{**one, **self.power.gpu_view(one["index"], gpu_c)} for one in seen]
        state, why = (State.ABSENT, self._why_none) if self.gpus is None else self.gpus.best
        return {
            "at_ms": int(time.time() * 1000),
            "gpu": {"state": str(state), "why": why},
            "gpus": gpus,
            "energy": self.power.view(),
            "why_no_gpu": self._why_none if self.gpus is None else "",
            "functions": [self._function(one) for one in self._functions.list()],
        }

    def _function(self, deployed: Deployed) -> dict[str, Any]:
        meter = self._meters.functions.get(deployed.name)
        p50_us = meter.durations.quantile_us(0.5) if meter is not None else None
        bill = self.power.bill(deployed.name)
        shown: dict[str, Any] = {
            "name": deployed.name,
            "calls": 0 if meter is None else meter.durations.count + sum(meter.failures.values()),
            "failed": 0 if meter is None else sum(meter.failures.values()),
            "p50_ms": None if p50_us is None else p50_us / 1000,
            "mode": _mode(deployed),
            "backend": "cpu",
            "why": self._why_none,
            "changed_at": "",
            "kernel_calls": {"cpu": self.guest.on_cpu[deployed.name], "gpu": 0},
            "replays": 0,
            "switches": 0,
            "gpu_seconds": 0.0,
            "energy_j": bill.energy_j,
            "cost_usd": bill.cost_usd,
            "kernels": {},
        }
        if self.routing is None:
            return shown
        routes = self.routing.find(deployed)
        if routes is None:
            return {**shown, "why": "no kernel was called"}
        assert self.gpus is not None
        alone = self.guest.on_cpu[deployed.name]
        return {**shown, **_routes(routes, alone), "gpu_seconds": self.gpus.worked_s(deployed.name)}


def acceleration_of(node: Node, cache_dir: str, state_dir: Path) -> Acceleration:
    """A node's, in its places; ``node.gpu_backend`` is what its brokers drive instead of CUDA."""
    made = Acceleration(
        node.config.accel,
        node.engine,
        node.functions,
        node.meters,
        cache_dir=cache_dir,
        backend=node.gpu_backend,
        state_dir=state_dir,
    )
    node.mailboxes.accel = made.guest
    node.invoker.admit, node.invoker.ended = made.admit, made.ended
    return made


def _routes(one: FunctionRoutes, alone: int) -> dict[str, Any]:
    """``alone`` calls were the CPU's without a question."""
    return {
        "backend": one.last,
        "why": one.shown_why,
        "changed_at": one.changed_at,
        "kernel_calls": {**one.calls, "cpu": one.calls["cpu"] + alone},
        "replays": one.replays,
        "switches": one.switches,
        "kernels": one.learned(),
    }


def _may_be_refused(deployed: Deployed) -> bool:
    """Whether it waits for a GPU, if its mode is gpu: not one that only its models have made so."""
    is_pinned = deployed.manifest.accel.mode == "gpu" and not _runs_models_alone(deployed)
    return is_pinned or _calls_kernels(deployed)


def _runs_models_alone(deployed: Deployed) -> bool:
    return any(item.module == NN_MODULE for item in deployed.info.imports) and not _calls_kernels(deployed)


def _calls_kernels(deployed: Deployed) -> bool:
    return any(item.module == "edge_accel" for item in deployed.info.imports)


def _mode(deployed: Deployed) -> str:
    from edgeagent.accel.chosen_mode import chosen

    return chosen(deployed.manifest.accel, deployed.info, deployed.sources).mode
