"""The benchmark ``orbit``: contact plans and propagation, CPU time, against one satellite after the other.

The baseline of the plans is what one writes first: for each neighbour and every 10 s one call of SGP4, the geometry in
plain Python, edges bisected to a second. It knows nothing of contacts shorter than 10 s. Before anything is timed its
windows are compared with ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgeagent.bench.harness import Bench, Case, CaseSkipped, Sample, Sampler

if TYPE_CHECKING:
    from edgeagent.orbit.nodes import Node

__all__ = ["cases"]

NEIGHBOURS = 100
HORIZON_S = 3 * 3600.0
START_S = 1_729_497_600.0  # 2024-10-21T08:00Z; any moment would do


def _timed(work: Callable[[], object]) -> Sampler:
    """CPU milliseconds of one call."""

    def sample() -> Sample:
        begun = time.process_time_ns()
        work()
        return (time.process_time_ns() - begun) / 1e6, {}

    return sample


def _nodes() -> list[Node]:
    """A satellite of a shell of 1,584, its 80 nearest fellows and 20 ground nodes; the first is the node itself."""
    import numpy as np

    from edgeagent.orbit.nodes import GroundNode, Satellite
    from edgeagent.orbit.propagation import Ensemble
    from edgeagent.orbit.walker import walker

    shell = walker(
        total=1584,
        planes=72,
        phasing=39,
        inclination_deg=53,
        altitude_km=550,
        epoch_us=int(START_S * 1e6),
    )
    places, _ = Ensemble(shell).positions_teme_km(START_S)
    near = np.argsort(((places[:, 0] - places[0, 0]) ** 2).sum(axis=1), kind="stable")[: NEIGHBOURS - 19]
    nodes: list[Node] = [Satellite(f"sat-{row:04}", shell[row], range_km_max=2000.0) for row in near.tolist()]
    nodes += [
        GroundNode(id=f"ground-{n}", latitude_deg=-57.0 + 6 * n, longitude_deg=18.0 * n, mask_deg=25.0)
        for n in range(20)
    ]
    return nodes


@contextmanager
def _plan(bench: Bench) -> Iterator[dict[str, Sampler]]:
    from edgeagent.bench.orbit_loop import loop_windows
    from edgeagent.orbit.planner import Planner

    nodes = _nodes()
    me, others = nodes[0], nodes[1:]
    pairs = [(me.id, node.id) for node in others]

    def ours() -> Any:
        return Planner(nodes, pairs=pairs, horizon_s=HORIZON_S).advance(START_S)

    def loop() -> list[list[tuple[float, float]]]:
        return [loop_windows(me, node, START_S, START_S + HORIZON_S) for node in others]

    plan = ours()
    for node, theirs in zip(others, loop(), strict=True):
        mine = [w for w in plan.windows_of(me.id, node.id) if w.duration_s > 20.0]
        theirs = [one for one in theirs if one[1] - one[0] > 18.0]
        apart = [
            max(abs(w.start_s - begin), abs(w.end_s - until))
            for w, (begin, until) in zip(mine, theirs, strict=False)
        ]
        if len(mine) != len(theirs) or max(apart, default=0.0) > 2.0:
            raise CaseSkipped(f"the baseline finds other contacts of {node.id}")
    yield {"ours": _timed(ours), "per-satellite-loop": _timed(loop)}


@contextmanager
def _minute(bench: Bench) -> Iterator[dict[str, Sampler]]:
    """What a node pays each minute: the plan for three hours, extended by one minute."""
    from edgeagent.orbit.planner import Planner

    nodes = _nodes()
    planner = Planner(nodes, pairs=[(nodes[0].id, node.id) for node in nodes[1:]], horizon_s=HORIZON_S)
    planner.advance(START_S)
    moments = iter(range(60, 10_000_000, 60))
    yield {"ours": _timed(lambda: planner.advance(START_S + next(moments)))}


def _propagate(count: int) -> Any:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        import numpy as np
        from sgp4.api import jday

        from edgeagent.orbit.propagation import Ensemble, satrec_of
        from edgeagent.orbit.walker import walker

        shell = walker(
            total=count,
            planes=count // 20,
            phasing=1,
            inclination_deg=53,
            altitude_km=550,
            epoch_us=int(START_S * 1e6),
        )
        ensemble, records = Ensemble(shell), [satrec_of(one) for one in shell]
        jd, fraction = jday(2024, 10, 21, 9, 0, 0)

        def loop() -> list[Any]:
            return [record.sgp4(jd, fraction) for record in records]

        places, _ = ensemble.positions_teme_km(START_S + 3600)
        if np.abs(places[:, 0] - np.array([row[1] for row in loop()])).max() > 1e-5:
            raise CaseSkipped("the baseline finds other positions")

        def per_satellite(work: Callable[[], object]) -> Sampler:
            timed = _timed(work)
            return lambda: (timed()[0] * 1000 / count, {})

        yield {
            "ours": per_satellite(lambda: ensemble.propagate(START_S + 3600)),
            "per-satellite-loop": per_satellite(loop),
        }

    return opened


def cases() -> list[Case]:
    plan = {"neighbours": NEIGHBOURS, "horizon_s": HORIZON_S}
    return [
        Case(name="plan-100x3h", unit="CPU ms", better="lower", open=_plan, params=plan),
        Case(name="plan-minute-100", unit="CPU ms", better="lower", open=_minute, params=plan),
        *(
            Case(
                name=f"propagate-{count}",
                unit="CPU us per satellite",
                better="lower",
                open=_propagate(count),
                params={"satellites": count, "times": 1},
            )
            for count in (100, 1000, 10_000)
        ),
    ]
