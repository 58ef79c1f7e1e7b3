"""The benchmark ``placement``: HyperDrive's wildfire scenario at four sizes, against its rules and simple ones.

A round is one case of five workflows: the first round's is made like the original's, the others have other seeds, times
and regions that burn. All contestants place the same cases. Of the figures, medians over the rounds: the critical path
and the ways between steps in ms a workflow, and the decision's CPU time in ms a step, networks given. What violates the
limits of latency or the recommended temperature is counted over all rounds.

Some contestants leave workflows without a node. A round's figure is the mean over those that they placed to the end; so
``paired`` has the means over the workflows that both ours and the baseline placed, ``unfinished`` how many each did
not.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler, no_more_fields

if TYPE_CHECKING:
    from edgeagent.simulator.wildfire_make import WildfireRecipe
    from edgeagent.simulator.wildfire_play import Played, Turn

__all__ = ["RIVAL_NAMES", "cases", "recipe_of"]

RIVAL_NAMES = ("hyperdrive", "nearest", "greedy", "first-fit", "round-robin", "random")
_CENTRES = ((39.51, -122.99), (-33.6, 150.3), (38.1, 23.6), (-12.5, -60.7), (53.4, -119.9), (-25.7, 28.2))


def recipe_of(sats_per_plane: int, number: int) -> WildfireRecipe:
    """The recipe of round ``number``; 0 is the original's time and region."""
    from edgeagent.simulator.wildfire_make import WildfireRecipe

    return WildfireRecipe(
        sats_per_plane=sats_per_plane,
        seed=1 + number,
        start_minute=37 * number,
        centre=_CENTRES[number % len(_CENTRES)],
    )


def _ruled(
    rule: Callable[[Turn, random.Random], list[int]], chance: random.Random
) -> Callable[[Turn], list[int]]:
    return lambda turn: rule(turn, chance)


class _Plays:
    """What each contestant did in each case of one size, played once for all figures."""

    def __init__(self, sats_per_plane: int) -> None:
        self._slots = sats_per_plane
        self._known: dict[tuple[int, str], Played] = {}
        self.topology_cpu_ms: dict[int, float] = {}

    def of(self, number: int, who: str) -> Played:
        if (number, who) not in self._known:
            self._play(number)
        return self._known[number, who]

    def _play(self, number: int) -> None:
        from edgeagent.simulator.wildfire_make import make_case
        from edgeagent.simulator.wildfire_ours import ours
        from edgeagent.simulator.wildfire_play import Networks, play
        from edgeagent.simulator.wildfire_rivals import RIVALS

        case = make_case(recipe_of(self._slots, number))
        networks, chance = Networks(case), random.Random(number)
        order = ["ours", "ours-late", *RIVALS]
        chance.shuffle(order)
        for who in order:
            if who.startswith("ours"):
                played = play(case, ours, networks=networks, known=who == "ours")
            else:
                played = play(case, _ruled(RIVALS[who], chance), networks=networks)
            self._known[number, who] = played
        self.topology_cpu_ms[number] = statistics.fmean(networks.build_cpu_ms)


def _paired(known: _Plays, numbers: range, mine: str, theirs: str, part: int) -> dict[str, Any]:
    """The means over the workflows that both placed to the end."""
    ours, rival = [], []
    for number in numbers:
        one, other = known.of(number, mine).finished(), known.of(number, theirs).finished()
        for wf in one.keys() & other.keys():
            ours.append(one[wf][part])
            rival.append(other[wf][part])
    if not ours:
        return {"workflows": 0}
    mean, theirs_mean = statistics.fmean(ours), statistics.fmean(rival)
    lower = 1.0 - mean / theirs_mean if theirs_mean else 0.0
    return {"workflows": len(ours), "ours": mean, "baseline": theirs_mean, "lower_by": lower}


def _more(size: int, figure: str, late: bool, taken: Rounds, bench: Bench) -> dict[str, Any]:
    """What is published beside the medians: violations, and what compares like with like."""
    known: _Plays = bench.share(f"plays-{size}", lambda: _plays(size))
    numbers = range(len(taken["ours"]))
    mine = "ours-late" if late else "ours"
    more: dict[str, Any] = {
        "violations": {
            who: {kind: sum(int(extra[kind]) for _, extra in samples) for kind in ("slo", "heat")}
            for who, samples in taken.items()
        },
        "unfinished": {
            who: sum(
                known.of(number, mine if who == "ours" else who).summary.workflows_unfinished
                for number in numbers
            )
            for who in taken
        },
    }
    if figure != "decision-cpu":
        part = 0 if figure == "critical-path" else 1
        more["paired"] = {who: _paired(known, numbers, mine, who, part) for who in taken if who != "ours"}
    return more


@contextmanager
def _plays(size: int) -> Iterator[_Plays]:
    from edgeagent.simulator.wildfire_make import SIZES

    yield _Plays(SIZES[size])


def _case(size: int, figure: str, late: bool, rounds: int) -> Case:
    attribute = {
        "critical-path": "mean_critical_path",
        "predecessor-legs": "mean_pred_sum_per_wf",
        "decision-cpu": "decision_cpu_ms_mean",
    }.get(figure)

    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        known = bench.share(f"plays-{size}", lambda: _plays(size))

        def sampler(who: str) -> Sampler:
            count = iter(range(10_000))

            def sample() -> Sample:
                number = next(count)
                played = known.of(number, who)
                if attribute is None:
                    return known.topology_cpu_ms[number], {}
                summary = played.summary
                value = float(getattr(summary, attribute))
                violated = {"slo": summary.slo_violations, "heat": summary.heat_violations}
                return value, violated

            return sample

        rivals = () if attribute is None else RIVAL_NAMES
        yield {
            "ours": sampler("ours-late" if late else "ours"),
            **{name: sampler(name) for name in rivals},
        }

    return Case(
        name=f"wildfire-{size}-{figure}{'-late-source' if late else ''}",
        unit="ms",
        better="lower",
        open=opened,
        params={"nodes": size, "workflows": 5, "source": "late" if late else "known"},
        rounds=rounds,
        rounds_full=101,
        warm_up_rounds=0,
        memory_bytes=600 << 20,
        group=f"wildfire-{size}",
        fields=(lambda taken, bench: _more(size, figure, late, taken, bench))
        if attribute
        else no_more_fields,
    )


def cases() -> list[Case]:
    """Four sizes; 15 rounds by default, 101 with ``--full``."""
    from edgeagent.simulator.wildfire_make import SIZES

    return [
        _case(size, figure, late, 15)
        for size in SIZES
        for figure in ("critical-path", "predecessor-legs", "decision-cpu", "topology-cpu")
        for late in ((False,) if figure == "topology-cpu" else (False, True))
    ]
