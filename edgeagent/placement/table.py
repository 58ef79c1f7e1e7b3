"""The nodes as arrays, one entry a node, in the order of the network's rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.errors import PlanRefused
from edgeagent.placement.settings import DecideSettings
from edgeagent.placement.views import NodeLoad, NodeView

__all__ = ["NodeTable", "architecture_of"]

Floats = NDArray[np.float64]

_ALIASES = {"arm64": "aarch64", "amd64": "x86_64", "x64": "x86_64", "x86-64": "x86_64"}
_SILENT = NodeLoad(age_s=np.inf)
_CPU_MAX = 0.98  # a queue of a node that is busier has no end


def architecture_of(name: str) -> str:
    """One name for each architecture, whatever its alias."""
    return _ALIASES.get(name.lower(), name.lower())


def _floats(values: Iterable[float | None], unknown: float) -> Floats:
    return np.array([unknown if one is None else one for one in values], dtype=np.float64)


class NodeTable:
    """Raises PlanRefused where views and ids do not agree.

    ``memory_bytes`` is what may be used: what is free, if that is fresh, else all; infinite where unknown. ``cpu`` and
    ``queue`` are discounted with age. ``temperature_c`` and ``charge`` are NaN where unknown, limits infinite.
    """

    def __init__(self, views: Sequence[NodeView], ids: tuple[str, ...], settings: DecideSettings) -> None:
        if tuple(view.id for view in views) != ids:
            raise PlanRefused("nodes and network differ", hint="give one view for each row, in its order")
        self.views, self.ids = views, ids
        self.row = {name: row for row, name in enumerate(ids)}
        self.nodes = len(ids)
        loads = [view.load or _SILENT for view in views]
        bodies = [view.body for view in views]
        self.cores = np.maximum(_floats([view.cores for view in views], 1.0), 1.0)
        self.speed = np.maximum(_floats([view.speed for view in views], 1.0), 1e-6)
        self.usd_per_cpu_s = _floats([view.usd_per_cpu_s for view in views], 0.0)
        self.usd_per_gib_out = _floats([view.usd_per_gib_out for view in views], 0.0)
        self.age_s = np.maximum(_floats([load.age_s for load in loads], np.inf), 0.0)
        self.free_bytes = _floats([load.memory_free_bytes for load in loads], np.inf)
        self.free_bytes[self.age_s > settings.fresh_s] = np.inf
        self.memory_bytes = np.minimum(
            _floats([view.memory_bytes for view in views], np.inf), self.free_bytes
        )
        trusted = np.exp2(-self.age_s / settings.half_life_s)
        cpu = _floats([load.cpu for load in loads], settings.cpu_prior)
        queue = _floats([load.queue for load in loads], settings.queue_prior)
        self.cpu = np.clip(trusted * cpu + (1.0 - trusted) * settings.cpu_prior, 0.0, _CPU_MAX)
        self.queue = np.maximum(trusted * queue + (1.0 - trusted) * settings.queue_prior, 0.0)
        self.temperature_c = _floats([load.temperature_c for load in loads], np.nan)
        self.charge = _floats([load.battery for load in loads], np.nan)
        self.hottest_c = _floats([body.temperature_c_max for body in bodies], np.inf)
        self.recommended_c = _floats([body.temperature_c_recommended for body in bodies], np.inf)
        self.tau_s = _floats([body.heat_tau_s for body in bodies], 0.0)
        self.c_per_w = _floats([body.heat_c_per_w for body in bodies], 0.0)
        self.base_c = _floats([body.base_c for body in bodies], 0.0)
        self.sun_c = _floats([body.sun_c for body in bodies], 0.0)
        self.battery_wh = _floats([body.battery_wh for body in bodies], np.nan)
        self.reserve = _floats([body.battery_reserve for body in bodies], 0.0)
        self.solar_w = _floats([body.solar_w for body in bodies], 0.0)
        self.idle_w = _floats([body.idle_w for body in bodies], 0.0)
        self.busy_w = _floats([body.busy_w for body in bodies], 0.0)

    def waiting_ms(self, exec_ms: Floats) -> Floats:
        """How long a call waits for a core: what is in the queue, or what the CPU's share lets expect if that is more.

        The latter is the mean of a queue with c servers (Sakasegawa 1977): rho^(sqrt(2 (c + 1)) - 1) / (c (1 - rho)).
        """
        power = np.sqrt(2.0 * (self.cores + 1.0)) - 1.0
        expected = self.cpu**power / (self.cores * (1.0 - self.cpu))
        return np.asarray(exec_ms * np.maximum(self.queue / self.cores, expected))
