"""What a step costs on each node beside its ways from the steps before: the terms of the scores, in milliseconds.

What must be waited for (``wait``) and what is only worth as much (money, energy, heat, places in a queue) are kept
apart: the first is the prediction, both together the score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.gpus import gpu_ms
from edgeagent.placement.outlook import Outlook, Window
from edgeagent.placement.table import NodeTable
from edgeagent.placement.views import HASH_DIGITS, StepAsk
from edgeagent.placement.weights import Weights, weights_of

__all__ = ["Scores", "scores_of", "soft_heat_ms"]

Floats = NDArray[np.float64]

_GIB = float(2**30)
_MS_PER_H = 3_600_000.0


@dataclass(frozen=True, eq=False)
class Scores:
    """One entry a node. ``data`` is infinite where there is no way; None: the step has no data source.

    ``back`` is the way to who waits for the result, ``code`` what the function takes on the wire, ``gpu`` what a step
    that prefers one loses by its absence, its heat or its queue.
    """

    execution: Floats
    queue: Floats
    places: Floats
    code: Floats
    energy: Floats
    heat: Floats
    money: Floats
    back: Floats
    near: Floats
    data: Floats | None
    gpu: Floats

    @property
    def own(self) -> Floats:
        """All but the legs in and the data leg, which the planner adds itself."""
        waits = self.execution + self.queue + self.code + self.back
        return np.asarray(waits + self.near + self.places + self.energy + self.heat + self.money + self.gpu)

    @property
    def runs(self) -> Floats:
        """From the moment that all input is there until the step has run."""
        return np.asarray(self.code + self.queue + self.execution)


def soft_heat_ms(table: NodeTable, end_c: Floats, weights: Weights) -> Floats:
    """The degrees over the recommended temperature at the end of the step, weighted."""
    return np.asarray(np.maximum(end_c - table.recommended_c, 0.0) * weights.ms_per_c)


def _holds(ask: StepAsk, table: NodeTable) -> NDArray[np.bool_]:
    digest = ask.sha256[:HASH_DIGITS]
    return np.fromiter((digest in view.functions for view in table.views), dtype=np.bool_, count=table.nodes)


def scores_of(
    ask: StepAsk, table: NodeTable, window: Window, outlook: Outlook, *, here: int, end_c: Floats
) -> Scores:
    """``here`` is the row that sends the code; ``end_c`` are the temperatures at the end of the step."""
    weights = weights_of(ask.slo_class)
    start, none = window.start_s, np.zeros(table.nodes)
    execution = ask.exec_ms / table.speed
    wh = (table.busy_w - table.idle_w) / table.cores * execution / _MS_PER_H
    usd = table.usd_per_cpu_s * execution / 1000.0 + table.usd_per_gib_out * ask.bytes_out / _GIB
    code, data, back, near = none, None, none, none
    if ask.sha256 and ask.code_bytes > 0:
        code = np.where(_holds(ask, table), 0.0, outlook.sending_ms(ask.code_bytes, here, start))
    if ask.data_source in table.row:
        source = table.row[ask.data_source]
        data = outlook.ways_ms(source, start) + outlook.sending_ms(ask.data_bytes, source, start)
    if ask.returns_to in table.row:
        target = table.row[ask.returns_to]
        back = outlook.ways_ms(target, window.end_s) + outlook.sending_ms(ask.bytes_out, target, window.end_s)
    if ask.near in table.row:
        near = outlook.ways_ms(table.row[ask.near], start)
    return Scores(
        execution=execution,
        queue=table.waiting_ms(execution),
        places=table.queue * weights.ms_per_place,
        code=code,
        energy=wh * weights.ms_per_wh,
        heat=soft_heat_ms(table, end_c, weights),
        money=usd * weights.ms_per_usd,
        back=back,
        near=near,
        data=data,
        gpu=gpu_ms(table, execution) if ask.prefers_gpu else none,
    )
