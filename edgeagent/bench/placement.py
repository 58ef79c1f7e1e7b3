"""The benchmark ``placement``: HyperDrive's wildfire scenario at four sizes, against its rules and simple ones.

A round is one case of five workflows: the first round's is made like the original's, the others have other seeds, times
and regions that burn. All contestants place the same cases. Of the figures, medians over the rounds: the critical path
and the ways between steps in ms a workflow, and the decision's CPU time in ms a step, networks given. What violates the
limits of latency or the recommended temperature is counted over all rounds.

Some contestants leave workflows without a node, those that would have been slow. A round's figure is the mean over
those that they placed to the end; so ``paired`` compares like with like, over the workflows that both ours and the
baseline placed; ``unfinished`` is how many each did not. ``optimum`` is the least critical path that any placement can
have, each workflow for itself and its source known; ``attainable`` compares it with the baselines as ``paired`` does.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler, no_more_fields
from edgeagent.bench.placement_plays import OPTIMUM, RIVAL_NAMES, Plays, Variant, paired

__all__ = ["cases"]

_PLAIN = Variant()
_STRAINED = (
    *(Variant(f"-stale-{age}s", stale_s=float(age), crowd=4) for age in (1, 10, 60)),
    Variant("-failing-10pct", failing=0.1),
)
_SKIES = (
    Variant("-polar", sky=(36, 28, 87.9)),
    Variant("-36-planes", sky=(36, 28, 53.0)),
)


def _more(
    size: int, variant: Variant, figure: str, late: bool, taken: Rounds, bench: Bench
) -> dict[str, Any]:
    """What is published beside the medians: violations, and what compares like with like."""
    known = _shared(size, variant, bench)
    numbers = range(len(taken["ours"]))
    mine = "ours-late" if late else "ours"
    summaries = {
        who: [known.of(number, mine if who == "ours" else who).summary for number in numbers]
        for who in taken
        if who != OPTIMUM
    }
    more: dict[str, Any] = {
        "violations": {
            who: {
                "slo": sum(one.slo_violations for one in each),
                "heat": sum(one.heat_violations for one in each),
            }
            for who, each in summaries.items()
        },
        "unfinished": {who: sum(one.workflows_unfinished for one in each) for who, each in summaries.items()},
    }
    if variant.strained:
        more["refusals"] = {who: sum(one.refusals for one in each) for who, each in summaries.items()}
    if figure != "decision-cpu":
        part = 0 if figure == "critical-path" else 1
        more["paired"] = {
            who: paired(known, numbers, mine, who, part, bench.options.seed) for who in taken if who != "ours"
        }
    if OPTIMUM in taken:
        more["attainable"] = {
            who: paired(known, numbers, OPTIMUM, who, part, bench.options.seed)
            for who in summaries
            if who != "ours"
        }
        if late:
            more["foreseen"] = _by_foresight(known, numbers)
    return more


def _by_foresight(known: Plays, numbers: range) -> dict[str, dict[str, float]]:
    """Ours with a late source beside the optimum, apart for the workflows whose source was expected, and was not."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for number in numbers:
        mine = known.finished(number, "ours-late")
        for wf, kind in known.foreseen[number].items():
            if wf in mine:
                groups.setdefault(kind, []).append((mine[wf][0], known.optimum_ms[number][wf]))
    return {
        kind: {
            "workflows": len(each),
            "ours": statistics.fmean(one for one, _ in each),
            "optimum": statistics.fmean(least for _, least in each),
        }
        for kind, each in sorted(groups.items())
    }


def _shared(size: int, variant: Variant, bench: Bench) -> Plays:
    @contextmanager
    def opened() -> Iterator[Plays]:
        yield Plays(size, variant)

    return bench.share(f"plays-{size}{variant.suffix}", opened)


def _case(size: int, figure: str, rounds: int, *, late: bool = False, variant: Variant = _PLAIN) -> Case:
    attribute = {
        "critical-path": "mean_critical_path",
        "predecessor-legs": "mean_pred_sum_per_wf",
        "decision-cpu": "decision_cpu_ms_mean",
    }.get(figure)

    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        known = _shared(size, variant, bench)

        def sampler(who: str) -> Sampler:
            count = iter(range(10_000))

            def sample() -> Sample:
                number = next(count)
                if who == OPTIMUM:
                    return statistics.fmean(least for least, _ in known.finished(number, who).values()), {}
                played = known.of(number, who)
                if attribute is None:
                    return known.topology_cpu_ms[number], {}
                summary = played.summary
                value = float(getattr(summary, attribute))
                violated = {"slo": summary.slo_violations, "heat": summary.heat_violations}
                return value, violated

            return sample

        rivals = () if attribute is None else RIVAL_NAMES
        if figure == "critical-path" and not variant.strained:
            rivals = (*rivals, OPTIMUM)
        yield {
            "ours": sampler("ours-late" if late else "ours"),
            **{name: sampler(name) for name in rivals},
        }

    return Case(
        name=f"wildfire-{size}-{figure}{variant.suffix}{'-late-source' if late else ''}",
        unit="ms",
        better="lower",
        open=opened,
        params={
            "nodes": size,
            "workflows": 5 * variant.crowd,
            "source": "late" if late else "known",
            **variant.params,
        },
        rounds=rounds,
        rounds_full=101,
        warm_up_rounds=0,
        memory_bytes=600 << 20,
        group=f"wildfire-{size}{variant.suffix}",
        fields=(lambda taken, bench: _more(size, variant, figure, late, taken, bench))
        if attribute
        else no_more_fields,
    )


def cases() -> list[Case]:
    """Four sizes, 15 rounds each by default, 5 where a crowd decides on old views; 101 with ``--full``."""
    from edgeagent.simulator.wildfire_make import SIZES

    plain = [
        _case(size, figure, 15, late=late)
        for size in SIZES
        for figure in ("critical-path", "predecessor-legs", "decision-cpu", "topology-cpu")
        for late in ((False,) if figure == "topology-cpu" else (False, True))
    ]
    skies = [
        _case(1118, "critical-path", 15, late=late, variant=variant)
        for variant in _SKIES
        for late in (False, True)
    ]
    fresh = _case(
        1118, "critical-path", 5, variant=Variant("-stale-0s", crowd=4)
    )  # what the crowd does alone
    strained = [
        _case(size, "critical-path", 5 if variant.crowd > 1 else 15, variant=variant)
        for size in SIZES
        for variant in _STRAINED
    ]
    return [*plain, *skies, fresh, *strained]
