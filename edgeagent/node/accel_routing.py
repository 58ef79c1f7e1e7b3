"""Which backend each kernel call of each function goes to: a controller for each kernel of a function.

A size says something of one kernel only (a product of as many operations as a sum of bytes is another matter), so that
kernels are told apart, and within each the controller tells size classes apart. What it is fed is what a guest waits:
from its ask to the outputs in its memory, queues and copies included.
"""

from __future__ import annotations

import datetime
import statistics
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from edgeagent.accel.chosen_mode import chosen
from edgeagent.accel.conditions import Conditions
from edgeagent.accel.controller import Change, Controller, Route
from edgeagent.accel.goal import Energy, Frugal, Goal
from edgeagent.accel.kept import KeptClass, KeptFunction, Shelf
from edgeagent.accel.limit_share import LimitShare
from edgeagent.accel.probing import ProbePlan
from edgeagent.accel.settings import Backend, Chance, ControllerSettings, Mode, first_of
from edgeagent.model.function import Deployed

__all__ = ["FunctionRoutes", "Prices", "Routing", "goal_of"]

_CONTROLLERS_MAX = 64  # of one function; the kernel that was not called for longest is forgotten
_FUNCTIONS_MAX = 1024
_WHY_MAX = 200  # of a text that is kept

_USUAL = ("usual", "probe")
_NO_ENERGY = Energy()

Prices = tuple[float, float]  # US dollars for a second: of a core, of the GPU

_FRUGAL: Mapping[str, Frugal] = MappingProxyType({"cost": "cost", "energy": "energy"})


def goal_of(deployed: Deployed, prices: Prices) -> Goal:
    """What the manifest's ``[slo]`` asks for; who names a price gets the cheaper backend within its SLO, classes
    ``cost`` and ``energy`` the one that takes less of these.
    """
    slo, (cpu_usd_s, gpu_usd_s) = deployed.manifest.slo, prices
    return Goal(
        slo_ms=slo.latency_ms_p95,
        cheapest=bool(slo.cost_usd_per_million),
        cpu_usd_s=cpu_usd_s,
        gpu_usd_s=gpu_usd_s,
        usd_max=slo.cost_usd_per_million / 1e6,
        frugal=_FRUGAL.get(slo.class_, ""),
    )


class Moved(NamedTuple):
    """A function's calls went to another backend."""

    at_utc_s: float
    backend: Backend
    reason: str


class NodeNow(Protocol):
    """What of the node counts: heat, battery and sun, what a kernel's second draws and costs, which GPU it has, why it
    is not ready, and how often one was lost.
    """

    @property
    def conditions(self) -> Callable[[], Conditions]: ...

    @property
    def energy(self) -> Callable[[str], Energy]: ...

    @property
    def device(self) -> Callable[[], str]: ...

    @property
    def why_not(self) -> Callable[[], str]: ...

    @property
    def falls(self) -> Callable[[], int]: ...


class FunctionRoutes:
    """Of one function as it is deployed; counts its calls by the backend that answered.

    ``node.device`` says which GPU this node has, empty: not known yet. What was learned of another one is forgotten.
    """

    def __init__(
        self,
        deployed: Deployed,
        settings: ControllerSettings,
        chance: Chance,
        prices: Prices,
        node: NodeNow,
        changed: Callable[[Change], None],
    ) -> None:
        self.deployed = deployed
        self.mode: Mode = chosen(deployed.manifest.accel, deployed.info, deployed.sources).mode
        self.calls = {"cpu": 0, "gpu": 0}
        self.worked_s = {"cpu": 0.0, "gpu": 0.0}  # by cores and GPUs, for calls answered by this process
        self.replays = 0
        self.switches = 0
        self.last = first_of(self.mode)
        self.why = f"mode {self.mode}"
        self.changed_at = ""
        self.change: Moved | None = None  # the last one in this process
        self._uses_gpu = self.mode == "gpu_preferred"  # whether calls of it would go there, if it may serve
        self._rested = False  # the last change was that it may not
        self._meanwhile = ""  # why it does not although it may
        self._falls = node.falls()
        self._goal = goal_of(deployed, prices)
        self._settings, self._chance, self._told = settings, chance, changed
        self._controllers: OrderedDict[str, Controller] = OrderedDict()
        self._shares: dict[str, LimitShare] = {}
        self._node = node
        self.learned_on = ""  # the GPU that the controllers know
        self.is_new = False  # whether something happened since it was last kept

    def kept(self) -> KeptFunction:
        """What is worth keeping beyond this deploy and this process."""
        self.is_new = False
        return KeptFunction(
            self.learned_on,
            self.mode,
            self.last,
            self.why[:_WHY_MAX],
            self.changed_at,
            self.calls["cpu"],
            self.calls["gpu"],
            self.replays,
            self.switches,
            {name: one.kept() for name, one in self._controllers.items() if len(name) <= _WHY_MAX},
        )

    def resume(self, kept: KeptFunction) -> None:
        """Go on where an earlier deploy of the same code was, or an earlier process of this node."""
        self.learned_on = kept.device
        self.calls = {"cpu": kept.calls_cpu, "gpu": kept.calls_gpu}
        self.replays, self.switches = kept.replays, kept.switches
        if kept.mode == self.mode:
            self.last, self.why, self.changed_at = kept.last, kept.why, kept.changed_at
            self._uses_gpu = kept.last == "gpu"
        for kernel, one in list(kept.kernels.items())[-_CONTROLLERS_MAX:]:
            self._controller(kernel).resume(one)

    def look_at_device(self) -> None:
        """What was learned of another GPU holds no longer."""
        device = self._node.device()
        if not device or device == self.learned_on:
            return
        if self.learned_on:
            self._controllers.clear()
            self.last, self.changed_at = first_of(self.mode), ""
            self.why = f"mode {self.mode}; another GPU: begun anew"
            self.change, self._uses_gpu = None, self.mode == "gpu_preferred"
        self.learned_on = device

    @property
    def wants_gpu(self) -> bool:
        """Whether a call of it is a reason to have the GPU ready."""
        controllers = self._controllers.values()
        return self.mode != "cpu" and (not controllers or any(one.wants_gpu for one in controllers))

    def route(self, now_s: float, kernel: str, size: float, *, ready: bool) -> Route:
        """Where the next call goes."""
        self.look_at_device()
        self.is_new = True
        controller = self._controller(kernel)
        controller.gpu_is(ready=ready)
        controller.conditions(self._node.conditions())
        controller.energy_is(self._node.energy(kernel))
        route = controller.route(now_s, size)
        if self._uses_gpu and route.backend == "cpu" and route.why not in _USUAL:
            self._rests(route.why, ready=ready)
        return route

    def _rests(self, why: str, *, ready: bool) -> None:
        """The GPU serves no call of it for now; the controller has not changed its mind. A start is no change."""
        if not ready and self._node.falls() == self._falls:
            self._meanwhile = f"on the CPU meanwhile: {why} ({self._node.why_not()})"[:_WHY_MAX]
            return
        self._uses_gpu = False
        self._moved(
            "cpu", why if ready else "the GPU was lost", "" if ready else f" ({self._node.why_not()})"
        )
        self._rested = True

    def gpu_rests(self, now_s: float, kernel: str, *, ready: bool) -> str:
        """Why no call of this kernel may go to a GPU now; empty: it may. Of a pinned one only what makes it wait."""
        self.look_at_device()
        controller = self._controller(kernel)
        controller.gpu_is(ready=ready)
        controller.conditions(self._node.conditions())
        return "" if self.mode == "gpu" else controller.gpu_rests(now_s)

    def served(
        self, now_s: float, kernel: str, size: float, backend: Backend, ms: float, *, failed: bool = False
    ) -> None:
        """A call was answered, or has failed there."""
        self.is_new = True
        if not failed:
            self.calls[backend] += 1
            self.last = backend
            if backend == "gpu":
                self._uses_gpu, self._meanwhile, self._falls = True, "", self._node.falls()
                if self._rested:
                    self._moved("gpu", "the GPU may serve again")
        self._note(self._controller(kernel).served(now_s, size, backend, ms, failed=failed))

    def probed(
        self,
        now_s: float,
        kernel: str,
        size: float,
        plan: ProbePlan,
        served_ms: float,
        ms: float,
        *,
        failed: bool = False,
    ) -> None:
        """A probe has ended, or was given up."""
        controller = self._controller(kernel)
        self._note(controller.probed(now_s, size, plan, served_ms, ms, failed=failed))

    def ended(self, kernels: Mapping[str, tuple[int, float]], whole_ms: float) -> None:
        """A call of the function ended: by kernel its calls and the ms that they took of all."""
        if not self._goal.slo_ms:
            return
        for kernel in self._shares.keys() - self._controllers.keys():
            del self._shares[kernel]
        for kernel, (calls, ms) in kernels.items():
            if (controller := self._controllers.get(kernel)) is not None:
                share = self._shares.setdefault(kernel, LimitShare(self._goal.slo_ms))
                share.add(whole_ms, ms, calls)
                controller.limit_is(share.limit_ms)

    def _controller(self, kernel: str) -> Controller:
        known = self._controllers.get(kernel)
        if known is None:
            known = Controller(self._settings, self._chance, mode=self.mode, goal=self._goal)
            self._controllers[kernel] = known
            if len(self._controllers) > _CONTROLLERS_MAX:
                self._controllers.popitem(last=False)
        self._controllers.move_to_end(kernel)
        return known

    def _note(self, change: Change | None) -> None:
        if change is None:
            return
        self.switches += 1
        on_gpu = (each.backend == "gpu" for one in self._controllers.values() for each in one.kept().classes)
        self._uses_gpu = change.backend == "gpu" or (change.size_class is not None and any(on_gpu))
        gain = f", {change.gain:.0%} less latency" if change.gain > 0.0 else ""
        self._moved(change.backend, change.reason, gain)
        self._told(change)

    def _moved(self, backend: Backend, reason: str, more: str = "") -> None:
        now = datetime.datetime.now(datetime.UTC)
        self.why = f"to the {backend.upper()}: {reason}{more}"[:_WHY_MAX]
        self.changed_at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        self.change, self._rested, self._meanwhile = Moved(now.timestamp(), backend, reason), False, ""
        self.is_new = True

    @property
    def shown_why(self) -> str:
        """The reason of the last change; where calls are elsewhere for a while, that first."""
        return f"{self._meanwhile}; {self.why}" if self._meanwhile else self.why

    def learned(self) -> dict[str, list[dict[str, Any]]]:
        """By kernel, of each size class that was seen: what serves it, and what both backends took lately (ms)."""
        return {
            kernel: [_class_view(each) for each in one.kept().classes]
            for kernel, one in self._controllers.items()
        }


def _class_view(one: KeptClass) -> dict[str, Any]:
    """``size_below`` is the first size that is beyond it; times are medians of the newest, None: none was seen."""
    cpu, gpu = ([ms for _, ms in times] for times in (one.cpu, one.gpu))
    return {
        "size_from": 4 ** (one.which - 1) if one.which else 0,
        "size_below": 4**one.which,
        "backend": one.backend,
        "calls": one.number,
        "cpu_ms": statistics.median(cpu) if cpu else None,
        "gpu_ms": statistics.median(gpu) if gpu else None,
    }


class Routing:
    """Of all functions that call kernels; on the event loop's thread.

    ``conditions`` gives heat, battery and sun as they are now, ``energy`` what a second of a kernel draws, and what
    that costs now; both are asked for each call. ``prices`` hold for functions that are seen later. ``shelf`` is what
    was learned before: a function whose name and code are known there goes on with it, on the GPU that ``device``
    names.
    """

    def __init__(
        self,
        chance: Chance,
        *,
        prices: Prices = (0.0, 0.0),
        settings: ControllerSettings | None = None,
        changed: Callable[[str, Change], None] = lambda _name, _change: None,
    ) -> None:
        self._chance, self.prices, self._changed = chance, prices, changed
        self._settings = settings or ControllerSettings()
        self._functions: OrderedDict[str, FunctionRoutes] = OrderedDict()
        self.conditions: Callable[[], Conditions] = Conditions
        self.energy: Callable[[str], Energy] = lambda _kernel: _NO_ENERGY
        self.forgotten: Callable[[str], None] = lambda _name: None
        self.shelf = Shelf()
        self.device: Callable[[], str] = str
        self.why_not: Callable[[], str] = str
        self.falls: Callable[[], int] = int

    def of(self, deployed: Deployed) -> FunctionRoutes:
        """Its routes; what was learned of an earlier deploy of that name holds for the same code only."""
        known = self._functions.get(deployed.name)
        if known is None or known.deployed is not deployed:
            name = deployed.name
            if known is not None:
                self._keep(known)
            known = FunctionRoutes(
                deployed,
                self._settings,
                self._chance,
                self.prices,
                self,
                lambda change: self._changed(name, change),
            )
            if (kept := self.shelf.get(name, deployed.sha256)) is not None:
                known.resume(kept)
            self._functions[name] = known
            if len(self._functions) > _FUNCTIONS_MAX:
                self._keep(self._functions.popitem(last=False)[1])
        self._functions.move_to_end(deployed.name)
        return known

    def find(self, deployed: Deployed) -> FunctionRoutes | None:
        """Of a function that has called kernels, in this process or in one before."""
        known = self._functions.get(deployed.name)
        if known is None and self.shelf.get(deployed.name, deployed.sha256) is None:
            return None
        known = self.of(deployed)
        known.look_at_device()
        return known

    def ended(self, deployed: Deployed, kernels: Mapping[str, tuple[int, float]], whole_ms: float) -> None:
        """As of its routes; a deploy that is over by now has none."""
        known = self._functions.get(deployed.name)
        if known is not None and known.deployed is deployed:
            known.ended(kernels, whole_ms)

    def forget(self, name: str) -> None:
        """A function is gone. What was learned stays on the shelf: it may be deployed again."""
        gone = self._functions.pop(name, None)
        if gone is not None:
            self.shelf.put(name, gone.deployed.sha256, gone.kept().uncounted())
            self.forgotten(name)

    def keep(self, count: int) -> bool:
        """Put what has changed on the shelf, of so many functions at most; whether there was any."""
        new = [one for one in self._functions.values() if one.is_new][:count]
        for one in new:
            self._keep(one)
        return bool(new)

    def _keep(self, one: FunctionRoutes) -> None:
        self.shelf.put(one.deployed.name, one.deployed.sha256, one.kept())

    def all(self) -> list[FunctionRoutes]:
        return list(self._functions.values())
