"""Who has a GPU that can be used, and what a step that prefers one loses where it is absent, hot or busy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeagent.model.gpu import USABLE, GpuState
from edgeagent.placement.table import NodeTable
from edgeagent.placement.views import NodeView

__all__ = ["GPU_C_MAX", "gpu_fault", "gpu_ms"]

Floats = NDArray[np.float64]

# Choices of ours. From this temperature on a GPU takes nothing more; what was heard of it counts for so long.
GPU_C_MAX = 90.0
_HEARD_S = 60.0
_BUSY_PRIOR = 0.5  # the utilisation of a GPU that does not say its own
# Until it is measured, a step that prefers a GPU is taken to last twice as long without one; a GPU that is held back
# costs half of that, each call in front of it a quarter, and no queue more than doing without,
# which is what its node does then.
_WITHOUT, _HELD_BACK, _CALL = 1.0, 0.5, 0.25


def gpu_fault(view: NodeView) -> str:
    """Why a node's GPU cannot be used, empty where it can. Peers that tell nothing of its health are believed."""
    if not view.gpu:
        return "it has no GPU"
    load = view.load
    if load is None or load.age_s > _HEARD_S:
        return ""
    if load.gpu_state is not None and load.gpu_state not in USABLE:
        return f"its GPU is {load.gpu_state.name.lower()}"
    if load.gpu_temperature_c is not None and load.gpu_temperature_c >= GPU_C_MAX:
        return f"its GPU has {load.gpu_temperature_c:.0f} C, at most {GPU_C_MAX:g} C"
    return ""


def _share(view: NodeView) -> float:
    """Of the execution time, what this node's GPU makes a step lose."""
    if gpu_fault(view):
        return _WITHOUT
    load = view.load
    busy = _BUSY_PRIOR if load is None or load.gpu is None else min(max(load.gpu, 0.0), 0.98)
    waiting = busy / (1.0 - busy)  # one server: so many calls are in front of this one (M/M/1)
    held_back = 0.0
    if load is not None:
        waiting = max(waiting if load.gpu_queue is None else 0.0, float(load.gpu_queue or 0))
        held_back = _HELD_BACK if load.gpu_state is GpuState.THROTTLED else 0.0
    return min(_WITHOUT, held_back + waiting * _CALL)


def gpu_ms(table: NodeTable, execution: Floats) -> Floats:
    """``(nodes,)``: milliseconds that the step loses beside a node with an idle GPU; ``execution`` in milliseconds."""
    shares = np.fromiter((_share(view) for view in table.views), dtype=np.float64, count=table.nodes)
    return np.asarray(execution * shares)
