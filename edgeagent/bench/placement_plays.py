"""What every contestant of the benchmark ``placement`` does in the cases of one size, and how two compare."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeagent.bench.stats import quantile

if TYPE_CHECKING:
    from edgeagent.simulator.wildfire_case import Case
    from edgeagent.simulator.wildfire_make import WildfireRecipe
    from edgeagent.simulator.wildfire_play import Networks, Played, Turn

__all__ = ["OPTIMUM", "RIVAL_NAMES", "Plays", "Variant", "paired"]

RIVAL_NAMES = ("hyperdrive", "nearest", "greedy", "first-fit", "round-robin", "random")
OPTIMUM = "optimum"  # no contestant: what none can be below (simulator/wildfire_optimum.py)
_CENTRES = ((39.51, -122.99), (-33.6, 150.3), (38.1, 23.6), (-12.5, -60.7), (53.4, -119.9), (-25.7, 28.2))
_RESAMPLES = 2000


@dataclass(frozen=True)
class Variant:
    """How a case differs from the plain one: another shell, or the strains of ``wildfire_strain.py``.

    ``sky`` is (planes, satellites a plane, inclination in degrees).
    """

    suffix: str = ""
    stale_s: float = 0.0
    crowd: int = 1
    failing: float = 0.0
    sky: tuple[int, int, float] | None = None

    @property
    def strained(self) -> bool:
        return self.crowd > 1 or self.failing > 0.0

    @property
    def params(self) -> dict[str, Any]:
        """What of it is to be published."""
        said: dict[str, Any] = {}
        if self.crowd > 1:
            said.update(view_age_s=self.stale_s, crowd=self.crowd)
        if self.failing:
            said["failing"] = self.failing
        if self.sky:
            said.update(zip(("planes", "sats_per_plane", "inclination_deg"), self.sky, strict=True))
        return said

    def recipe(self, size: int, number: int) -> WildfireRecipe:
        """The recipe of round ``number``; 0 is the original's time and region."""
        from edgeagent.simulator.wildfire_make import SIZES, WildfireRecipe

        slots = SIZES[size]
        planes, slots_here, inclination_deg = self.sky or (72, slots, 53.0)
        return WildfireRecipe(
            planes=planes,
            sats_per_plane=slots_here,
            inclination_deg=inclination_deg,
            edge_nodes=100 * slots // 14,
            ground_stations=10 * slots // 14,
            seed=1 + number,
            start_minute=37 * number,
            centre=_CENTRES[number % len(_CENTRES)],
        )


def _ruled(
    rule: Callable[[Turn, random.Random], list[int]], chance: random.Random
) -> Callable[[Turn], list[int]]:
    return lambda turn: rule(turn, chance)


class Plays:
    """What each contestant did in each case of one size, played once for all figures."""

    def __init__(self, size: int, variant: Variant) -> None:
        self._size = size
        self._variant = variant
        self._known: dict[tuple[int, str], Played] = {}
        self.optimum_ms: dict[int, dict[int, float]] = {}  # round -> workflow -> least critical path
        self.foreseen: dict[int, dict[int, str]] = {}  # round -> workflow -> how its late source was
        self.topology_cpu_ms: dict[int, float] = {}

    def of(self, number: int, who: str) -> Played:
        if (number, who) not in self._known:
            self._play(number)
        return self._known[number, who]

    def finished(self, number: int, who: str) -> dict[int, tuple[float, float]]:
        """(critical path, sum of the ways) of the workflows placed to the end; of the optimum both the same."""
        if who != OPTIMUM:
            return self.of(number, who).finished()
        self.of(number, "ours")
        return {wf: (least, least) for wf, least in self.optimum_ms[number].items()}

    def _play(self, number: int) -> None:
        from edgeagent.simulator.wildfire_make import make_case
        from edgeagent.simulator.wildfire_ours import ours
        from edgeagent.simulator.wildfire_play import Networks, play
        from edgeagent.simulator.wildfire_rivals import RIVALS
        from edgeagent.simulator.wildfire_strain import Strain

        variant = self._variant
        case = make_case(variant.recipe(self._size, number))
        strain = Strain(
            stale_s=variant.stale_s, crowd=variant.crowd, failing=variant.failing, seed=1 + number
        )
        networks, chance = Networks(case), random.Random(number)
        order = ["ours", *([] if variant.strained else ["ours-late"]), *RIVALS]
        chance.shuffle(order)
        for who in order:
            if who == "ours":
                played = play(case, ours, networks=networks, strain=strain)
            elif who == "ours-late":
                played = play(
                    case, self._watched(number, ours), networks=networks, known=False, strain=strain
                )
            else:
                played = play(case, _ruled(RIVALS[who], chance), networks=networks, strain=strain)
            self._known[number, who] = played
        if not variant.strained:
            self._weigh(number, case, networks)
        self.topology_cpu_ms[number] = statistics.fmean(networks.build_cpu_ms)

    def _watched(self, number: int, ours: Callable[[Turn], Iterable[int]]) -> Callable[[Turn], Iterable[int]]:
        """Ours, and of each workflow whether its source was foreseen."""
        from edgeagent.simulator.wildfire_guess import foreseen

        seen = self.foreseen[number] = {}

        def scheduler(turn: Turn) -> Iterable[int]:
            if turn.index == 0:
                seen[turn.instance.wf] = foreseen(turn)
            return ours(turn)

        return scheduler

    def _weigh(self, number: int, case: Case, networks: Networks) -> None:
        from edgeagent.simulator.wildfire_optimum import optimum_ms, starting_free

        mine, free = self._known[number, "ours"].finished(), starting_free(case)
        self.optimum_ms[number] = {
            one.wf: optimum_ms(case, networks, one, free, mine.get(one.wf, (math.inf, 0.0))[0])
            for one in case.instances
        }


def paired(known: Plays, numbers: range, mine: str, theirs: str, part: int, seed: int) -> dict[str, Any]:
    """The means over the workflows that both placed to the end, ``ratio`` of them and its 95 % interval.

    The interval is a bootstrap over rounds, both sides of a round together. ``medians`` are over the rounds' means of
    the same workflows. ``part`` 0 is the critical path, 1 the sum of the ways.
    """
    rounds: list[list[tuple[float, float]]] = []
    for number in numbers:
        one, other = known.finished(number, mine), known.finished(number, theirs)
        rounds.append([(one[wf][part], other[wf][part]) for wf in sorted(one.keys() & other.keys())])
    both = [pair for each in rounds for pair in each]
    if not both:
        return {"workflows": 0}
    sums = [(sum(pair[0] for pair in each), sum(pair[1] for pair in each)) for each in rounds]
    rng = random.Random(seed)
    drawn = [_over(rng.choices(sums, k=len(sums))) for _ in range(_RESAMPLES)]
    return {
        "workflows": len(both),
        "ours": statistics.fmean(pair[0] for pair in both),
        "baseline": statistics.fmean(pair[1] for pair in both),
        "lower_by": 1.0 - 1.0 / _over(both) if _over(both) else 0.0,
        "ratio": _over(both),
        "medians": [
            statistics.median(statistics.fmean(pair[side] for pair in each) for each in rounds if each)
            for side in (0, 1)
        ],
        "ratio_ci95": [quantile(drawn, 0.025), quantile(drawn, 0.975)],
    }


def _over(pairs: Sequence[tuple[float, float]]) -> float:
    """Theirs over ours, all together; 1 where there is nothing to divide."""
    mine = sum(pair[0] for pair in pairs)
    return sum(pair[1] for pair in pairs) / mine if mine else 1.0
